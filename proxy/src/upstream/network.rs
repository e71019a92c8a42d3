//! How good the way to an endpoint is: samples of `TCP_INFO` from connections that carry requests anyway.
//!
//! A sample is one system call, so at most [`SAMPLES_PER_SECOND`] are taken per endpoint and worker, whatever the load.
//! The kernel counts segments since a connection was opened; what matters is what was lost lately, so the last sample of
//! each connection is remembered and the difference counts.
// Concept: endpoint-network

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::time::Duration;

use foreshade_engine::moment::Moment;
use foreshade_engine::observation::NetworkTally;
use foreshade_sys::TcpInfo;

use crate::recorder::Place;
use crate::topology::descent::Descent;

/// Enough to see a loss of one percent within seconds on a busy endpoint.
const SAMPLES_PER_SECOND: u32 = 8;

/// Connections whose last sample is remembered; beyond it all are forgotten and start anew.
const REMEMBERED_MAX: usize = 4096;

/// The sampler of one worker.
#[derive(Debug)]
pub struct Sampler {
    /// When the next sample is due, by cluster and endpoint.
    due: Vec<Vec<Moment>>,
    last: HashMap<RawFd, TcpInfo>,
}

impl Sampler {
    /// A sampler for clusters of these sizes.
    pub fn new(sizes: &[usize]) -> Self {
        Self {
            due: sizes.iter().map(|n| vec![Moment::ZERO; *n]).collect(),
            last: HashMap::new(),
        }
    }

    /// Goes on with other clusters and endpoints.
    pub fn reshape(&mut self, descent: &Descent) {
        self.due = descent.carry(std::mem::take(&mut self.due), || Moment::ZERO);
    }

    /// The descriptor names a new connection from now on.
    pub fn connected(&mut self, socket: RawFd) {
        self.last.remove(&socket);
    }

    /// A sample of the connection, if the endpoint's turn has come. `socket` carries a request right now.
    pub fn sample(&mut self, place: Place, socket: RawFd, now: Moment) -> Option<NetworkTally> {
        let due = self.due.get_mut(place.cluster)?.get_mut(place.endpoint)?;
        if now < *due {
            return None;
        }
        *due = now + Duration::from_secs(1) / SAMPLES_PER_SECOND;
        let info = foreshade_sys::tcp_info(socket).ok()?;
        if self.last.len() >= REMEMBERED_MAX {
            self.last.clear();
        }
        let before = self.last.insert(socket, info).unwrap_or_default();
        Some(NetworkTally {
            connections: 1,
            rtt_us: u64::from(info.rtt_us),
            rtt_var_us: u64::from(info.rtt_var_us),
            segments_out: u64::from(info.segments_out.saturating_sub(before.segments_out)),
            retransmits: u64::from(info.retransmits.saturating_sub(before.retransmits)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn samples_are_rationed_and_count_what_is_new() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        let place = Place {
            cluster: 0,
            endpoint: 0,
        };
        let mut sampler = Sampler::new(&[1]);
        let fd = client.as_raw_fd();
        let mut exchange = |n| {
            for _ in 0..n {
                client.write_all(b"x").unwrap();
                server.read_exact(&mut [0]).unwrap();
            }
        };
        exchange(20);
        let first = sampler.sample(place, fd, Moment::ZERO).unwrap();
        assert!(first.segments_out >= 20, "{first:?}");
        assert!(sampler.sample(place, fd, Moment::from_micros(100_000)).is_none());
        exchange(3);
        let second = sampler.sample(place, fd, Moment::from_micros(125_000)).unwrap();
        assert!((3..20).contains(&second.segments_out), "{second:?}");
        assert!(
            sampler
                .sample(
                    Place {
                        cluster: 0,
                        endpoint: 9
                    },
                    fd,
                    Moment::ZERO
                )
                .is_none()
        );
    }
}
