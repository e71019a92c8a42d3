//! A name server on the loopback interface that says what the test says: A and SRV records over UDP, RFC 1035.
//!
//! Written by hand, so that what the proxy's resolver reads was not written by its own library.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

const TYPE_A: u16 = 1;
const TYPE_SRV: u16 = 33;
const CLASS_IN: u16 = 1;
const SERVER_FAILURE: u16 = 2;
const NO_SUCH_NAME: u16 = 3;

/// What a name has.
#[derive(Clone, Debug)]
pub enum Record {
    /// An address.
    A(Ipv4Addr),
    /// A target of a service: priority, weight, port, host.
    Srv(u16, u16, u16, &'static str),
}

#[derive(Debug, Default)]
struct Zone {
    names: HashMap<String, (u32, Vec<Record>)>,
    broken: bool,
}

/// A running name server. Lives until the process ends.
#[derive(Debug)]
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl NameServer {
    /// Starts with no names.
    ///
    /// # Panics
    /// When no port is free.
    #[allow(
        clippy::new_without_default,
        reason = "it opens a socket, which a default does not do"
    )]
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("its address");
        let zone = Arc::<Mutex<Zone>>::default();
        let served = Arc::clone(&zone);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question) {
                let zone = served.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = question.get(..length).and_then(|bytes| answer(bytes, &zone)) {
                    // A client that is gone asks again, or does not.
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { address, zone }
    }

    /// From now on the name has these records, for so many seconds at a time.
    pub fn set(&self, name: &str, seconds: u32, records: &[Record]) {
        self.zone()
            .names
            .insert(name.to_owned(), (seconds, records.to_vec()));
    }

    /// Whether it fails at every question.
    pub fn break_down(&self, broken: bool) {
        self.zone().broken = broken;
    }

    fn zone(&self) -> std::sync::MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a message with one question; `None` where it is something else.
fn answer(message: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(
            String::from_utf8(message.get(at..at + length)?.to_vec())
                .ok()?
                .to_lowercase(),
        );
        at += length;
    }
    let asked = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    let question = message.get(12..at + 4)?;
    let known = zone.names.get(&labels.join("."));
    let code = match known {
        _ if zone.broken => SERVER_FAILURE,
        None => NO_SUCH_NAME,
        Some(_) => 0,
    };
    let (seconds, records) = known.filter(|_| code == 0).cloned().unwrap_or_default();
    let records: Vec<_> = records.iter().filter_map(|record| data(record, asked)).collect();
    let mut answer = message.get(..2)?.to_vec();
    // A response, authoritative, recursion desired and available.
    for word in [0x8580 | code, 1, u16::try_from(records.len()).ok()?, 0, 0] {
        answer.extend(word.to_be_bytes());
    }
    answer.extend(question);
    for data in records {
        // The name of the question, by its place.
        for word in [0xc00c, asked, CLASS_IN] {
            answer.extend(word.to_be_bytes());
        }
        answer.extend(seconds.to_be_bytes());
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// A record's data, if it is of the type that was asked for.
fn data(record: &Record, asked: u16) -> Option<Vec<u8>> {
    match record {
        Record::A(address) if asked == TYPE_A => Some(address.octets().to_vec()),
        Record::Srv(priority, weight, port, target) if asked == TYPE_SRV => {
            let mut data: Vec<u8> = [priority, weight, port]
                .iter()
                .flat_map(|n| n.to_be_bytes())
                .collect();
            for label in target.split('.') {
                data.push(u8::try_from(label.len()).ok()?);
                data.extend(label.bytes());
            }
            data.push(0);
            Some(data)
        }
        Record::A(_) | Record::Srv(..) => None,
    }
}
