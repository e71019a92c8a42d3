//! Free ports for programs that have to be told where to listen.
//!
//! Below the kernel's ephemeral ports: one of those may become the near end of somebody's connection between the moment
//! it is found free and the moment it is listened on. Each call goes on where the last one ended, so that two sites of one
//! run never get the same; two runs begin at different places.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

/// First port that is tried.
const FIRST: u32 = 10_240;

/// How many there are.
const COUNT: u32 = 20_480;

/// Where the next search begins.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// As many addresses of the loopback interface on which nobody listens now.
///
/// # Errors
/// When there are not so many.
pub fn free(count: usize) -> Result<Vec<SocketAddr>> {
    let mut found = Vec::with_capacity(count);
    let start = std::process::id().wrapping_mul(64);
    for _ in 0..COUNT {
        if found.len() == count {
            break;
        }
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port)?));
        if TcpListener::bind(address).is_ok() {
            found.push(address);
        }
    }
    ensure!(found.len() == count, "found no {count} free ports");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_nobody_gets_one_twice() {
        let (one, other) = (free(3).unwrap(), free(3).unwrap());
        assert!(one.iter().all(|address| !other.contains(address)));
        for address in one {
            let taken = TcpListener::bind(address).unwrap();
            assert_eq!(taken.local_addr().unwrap(), address);
        }
    }
}
