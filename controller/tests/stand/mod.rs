//! The real API on a real socket, before a test double, and a client that speaks plain HTTP to it.

pub(crate) mod memory;

use std::sync::Arc;

use foreshade_controller::api::Api;
use foreshade_controller::api::links::Signer;
use foreshade_controller::config::AdminAddress;
use foreshade_door::{Door, Keys};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use memory::{Memory, NOON_MS};

/// An API that serves, and what is behind it.
pub(crate) struct Stand {
    pub(crate) address: String,
    pub(crate) memory: Arc<Memory>,
}

/// An answer: status, head in lower case, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} {}", self.status, self.text))
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(str::trim)
    }
}

impl Stand {
    pub(crate) fn open() -> Self {
        Self::with(Keys::default(), None)
    }

    pub(crate) fn with(keys: Keys, links: Option<Signer>) -> Self {
        let memory = Arc::<Memory>::default();
        let door = Door::open(&AdminAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = door.tcp().unwrap().to_string();
        let api = Api::new(memory.clone(), keys, links).with_clock(|| NOON_MS);
        tokio::spawn(api.serve(door));
        Self { address, memory }
    }

    /// Sends these bytes and reads the answer to its end.
    pub(crate) async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, text) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{answer:?}"));
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            text: text.to_owned(),
        }
    }

    /// A request with a body of JSON and more headers, each ending in `\r\n`.
    pub(crate) async fn send(&self, line: &str, headers: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        let answer = self.raw(&request).await;
        if answer.status >= 400 {
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json"),
                "{line}: {}",
                answer.text
            );
            assert_eq!(answer.json()["status"], answer.status, "{line}");
        }
        answer
    }

    pub(crate) async fn see(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "", &Value::Null).await
    }
}
