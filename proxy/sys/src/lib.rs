//! The few system calls that no safe crate offers by a bare descriptor, or without an allocation for each: reading
//! `TCP_INFO`, asking what a connection still holds, and ending it; and datagrams, many at a time, with the address that
//! they were sent to ([`datagrams`]).
//!
//! Everything here takes a raw descriptor that the caller holds open. A wrong number cannot corrupt memory: the kernel
//! refuses it (`EBADF`, `ENOTSOCK`) or, at worst, speaks of another socket. The workspace forbids `unsafe` everywhere
//! else, so this is the whole of it.

#![cfg(target_os = "linux")]

pub mod datagrams;

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::RawFd;

/// What the kernel knows of one TCP connection. Source: `struct tcp_info`, `linux/tcp.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
    /// Its mean deviation, microseconds.
    pub rtt_var_us: u32,
    /// Segments sent again since the connection was opened.
    pub retransmits: u32,
    /// Segments sent since the connection was opened; 0 on kernels older than 4.2.
    pub segments_out: u32,
}

/// Reads `TCP_INFO` of a connected TCP socket. Costs one system call, under a microsecond.
///
/// # Errors
/// What `getsockopt` says: the descriptor is closed, or is not a TCP socket.
pub fn tcp_info(socket: RawFd) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    // An older kernel knows fewer fields and writes fewer bytes; the rest stays zero.
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the pointer covers `length` writable bytes, and the kernel writes at most that many.
    let status = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every byte was zeroed above, and the structure consists of integers, for which all bytes are valid.
    let info = unsafe { info.assume_init() };
    Ok(TcpInfo {
        rtt_us: info.tcpi_rtt,
        rtt_var_us: info.tcpi_rttvar,
        retransmits: info.tcpi_total_retrans,
        segments_out: info.tcpi_segs_out,
    })
}

/// Bytes that were written to a TCP socket and that the other side has not acknowledged. Costs one system call, under a
/// microsecond. Source: tcp(7), `SIOCOUTQ`.
///
/// # Errors
/// What `ioctl` says: the descriptor is closed, or is not a TCP socket.
pub fn unacknowledged(socket: RawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which Linux also calls TIOCOUTQ, writes one int, and the pointer is to one.
    match unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut bytes) } {
        0 => Ok(u64::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes that have arrived at a TCP socket and that nobody has read yet. Costs one system call, under a microsecond.
/// Source: tcp(7), `SIOCINQ`.
///
/// # Errors
/// What `ioctl` says: the descriptor is closed, or is not a TCP socket.
pub fn unread(socket: RawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCINQ, which Linux also calls FIONREAD, writes one int, and the pointer is to one.
    match unsafe { libc::ioctl(socket, libc::FIONREAD, &mut bytes) } {
        0 => Ok(u64::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends both directions of a socket, so that whoever reads from it sees its end at once. The descriptor stays open and
/// stays its owner's to close.
///
/// # Errors
/// What `shutdown` says; `NotConnected` where the other side was faster.
pub fn shutdown(socket: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    match unsafe { libc::shutdown(socket, libc::SHUT_RDWR) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_live_connection_has_a_round_trip_time_and_has_sent_segments() {
        let (mut client, mut server) = pair();
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        let info = tcp_info(client.as_raw_fd()).unwrap();
        assert!(info.rtt_us > 0, "{info:?}");
        assert!(info.segments_out >= 1 && info.segments_out < 100, "{info:?}");
        assert_eq!(info.retransmits, 0);
    }

    #[test]
    fn what_the_other_side_does_not_read_stays_unacknowledged() {
        let (mut client, server) = pair();
        assert_eq!(unacknowledged(client.as_raw_fd()).unwrap(), 0);
        client.set_nonblocking(true).unwrap();
        // Until both sides' buffers are full.
        while client.write(&[0; 65536]).is_ok() {}
        assert!(unacknowledged(client.as_raw_fd()).unwrap() > 0);
        drop(server);
        assert!(unacknowledged(-1).is_err());
    }

    #[test]
    fn what_has_arrived_is_unread_until_it_is_read() {
        let (mut client, mut server) = pair();
        assert_eq!(unread(client.as_raw_fd()).unwrap(), 0);
        server.write_all(b"four").unwrap();
        // Loopback delivers before `write` returns, but nobody promises it.
        while unread(client.as_raw_fd()).unwrap() < 4 {}
        client.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(client.as_raw_fd()).unwrap(), 0);
        assert!(unread(-1).is_err());
    }

    #[test]
    fn a_shut_down_connection_reads_as_ended_on_both_sides() {
        let (mut client, mut server) = pair();
        shutdown(client.as_raw_fd()).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn what_is_no_connection_is_an_error() {
        assert!(tcp_info(-1).is_err());
        assert!(shutdown(-1).is_err());
    }
}
