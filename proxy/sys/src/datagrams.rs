//! Datagrams of a socket that listens: many are read in one call, each with who sent it and the address of this machine
//! that he sent it to; and one is sent from that same address.
//!
//! A socket on an unspecified address (`0.0.0.0`, `::`) would answer from whatever address the route prefers, and a client
//! takes no answer from somebody whom he has not asked. Sources: ip(7) `IP_PKTINFO`, ipv6(7) `IPV6_RECVPKTINFO`,
//! recvmmsg(2). A socket of IPv6 that takes IPv4 as well tells of mapped addresses, and takes them.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;
use std::ptr;

/// Datagrams that one call reads at most. More make a call no cheaper by much, and others wait meanwhile.
pub const BATCH_MAX: usize = 16;

/// Longest datagram: what the length field of UDP can say. 65,507 bytes of it are content over IPv4.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Bytes of control messages: one of either protocol, and some room.
const CONTROL_BYTES: usize = 128;

/// As control messages have to lie in memory.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Room for as many datagrams as are read at a time. One megabyte of addresses, of which the kernel gives memory to what
/// has been written: pages of small datagrams are shared by none, and large ones are rare.
#[derive(Debug)]
pub struct Batch {
    room: Vec<u8>,
    heads: Vec<Head>,
}

/// What is known of a datagram beside its content.
#[derive(Clone, Copy, Debug)]
struct Head {
    from: Option<SocketAddr>,
    to: Option<IpAddr>,
    length: usize,
}

/// A datagram that has come.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Who says that he has sent it.
    pub from: SocketAddr,
    /// The address of this machine that it was sent to, where [`tell_addresses`] was called.
    pub to: Option<IpAddr>,
    /// Its content, which may be empty.
    pub bytes: &'a [u8],
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            room: vec![0; BATCH_MAX * DATAGRAM_BYTES_MAX],
            heads: Vec::with_capacity(BATCH_MAX),
        }
    }
}

impl Batch {
    /// Reads datagrams that are there, without waiting for any, in place of those of before. How many.
    ///
    /// # Errors
    /// `WouldBlock` where there are none; else what `recvmmsg` says.
    pub fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        self.heads.clear();
        // SAFETY: all of these are plain old data, for which zeroes are valid.
        let mut messages: [libc::mmsghdr; BATCH_MAX] = unsafe { zeroed() };
        // SAFETY: the same.
        let mut pieces: [libc::iovec; BATCH_MAX] = unsafe { zeroed() };
        // SAFETY: the same.
        let mut names: [libc::sockaddr_storage; BATCH_MAX] = unsafe { zeroed() };
        let mut controls = [Control([0; CONTROL_BYTES]); BATCH_MAX];
        let rooms = self.room.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let places = pieces.iter_mut().zip(&mut names).zip(&mut controls);
        for ((message, room), ((piece, name), control)) in messages.iter_mut().zip(rooms).zip(places) {
            piece.iov_base = room.as_mut_ptr().cast();
            piece.iov_len = room.len();
            let head = &mut message.msg_hdr;
            head.msg_name = ptr::from_mut(name).cast();
            head.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            head.msg_iov = piece;
            head.msg_iovlen = 1;
            head.msg_control = control.0.as_mut_ptr().cast();
            head.msg_controllen = CONTROL_BYTES;
        }
        // SAFETY: each message points to a name, a piece and a control buffer of the lengths that it says, which live until
        // the end of this function; the pieces point into the room, which is borrowed exclusively.
        let came = unsafe {
            libc::recvmmsg(
                socket,
                messages.as_mut_ptr(),
                BATCH_MAX as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let came = usize::try_from(came).map_err(|_| io::Error::last_os_error())?;
        for (message, name) in messages.iter().zip(&names).take(came) {
            self.heads.push(Head {
                from: address_of(name),
                // SAFETY: the kernel has filled in the control messages that this head points to, and their length.
                to: unsafe { told_address(&message.msg_hdr) },
                length: (message.msg_len as usize).min(DATAGRAM_BYTES_MAX),
            });
        }
        Ok(came)
    }

    /// The datagrams that were read last.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        let rooms = self.room.chunks_exact(DATAGRAM_BYTES_MAX);
        self.heads.iter().zip(rooms).filter_map(|(head, room)| {
            Some(Received {
                from: head.from?,
                to: head.to,
                bytes: room.get(..head.length)?,
            })
        })
    }

    /// Forgets what was read, so that nobody takes it twice.
    pub fn clear(&mut self) {
        self.heads.clear();
    }

    /// Room for one datagram, for whoever reads them one by one. What was read before is gone.
    pub fn room(&mut self) -> &mut [u8] {
        self.heads.clear();
        &mut self.room[..DATAGRAM_BYTES_MAX]
    }
}

/// Has the kernel tell to which address each datagram was sent.
///
/// # Errors
/// What `setsockopt` says.
pub fn tell_addresses(socket: RawFd, is_ipv6: bool) -> io::Result<()> {
    let (level, name) = match is_ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to one int, and so says the length.
    let status = unsafe {
        libc::setsockopt(
            socket,
            level,
            name,
            ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a datagram without waiting, from this address of the machine where one is given, else from the socket's own.
///
/// # Errors
/// `WouldBlock` where the socket's buffer is full; else what `sendmsg` says.
pub fn send(socket: RawFd, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
    let (mut name, length) = name_of(to);
    let mut piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: plain old data, for which zeroes are valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = ptr::from_mut(&mut name).cast();
    message.msg_namelen = length;
    message.msg_iov = &mut piece;
    message.msg_iovlen = 1;
    if let Some(from) = from {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES;
        // SAFETY: the control buffer is aligned, and longer than a header and either of the two structures.
        message.msg_controllen = unsafe { tell_source(&message, from, to.is_ipv6()) };
    }
    // SAFETY: name, piece and control live until the end of this function and are as long as the message says; the kernel
    // only reads from them.
    let sent = unsafe { libc::sendmsg(socket, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    match sent {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes the control message that names the source: how many bytes it takes.
///
/// # Safety
/// The message's control buffer is aligned as `cmsghdr` is, zeroed, and has room for the larger of the two.
unsafe fn tell_source(message: &libc::msghdr, from: IpAddr, is_ipv6: bool) -> usize {
    // SAFETY: the caller's promise; `CMSG_FIRSTHDR` and `CMSG_DATA` stay within the buffer.
    unsafe {
        let head = libc::CMSG_FIRSTHDR(message);
        let data = libc::CMSG_DATA(head);
        let (level, kind, length) = if is_ipv6 {
            let mut info: libc::in6_pktinfo = zeroed();
            let from = match from {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            info.ipi6_addr.s6_addr = from.octets();
            ptr::write_unaligned(data.cast(), info);
            (
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                size_of::<libc::in6_pktinfo>(),
            )
        } else {
            let mut info: libc::in_pktinfo = zeroed();
            if let IpAddr::V4(v4) = from.to_canonical() {
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(v4.octets());
            }
            ptr::write_unaligned(data.cast(), info);
            (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
        };
        (*head).cmsg_level = level;
        (*head).cmsg_type = kind;
        // Both are a few dozen bytes.
        (*head).cmsg_len = libc::CMSG_LEN(length as libc::c_uint) as usize;
        libc::CMSG_SPACE(length as libc::c_uint) as usize
    }
}

/// The address that a datagram was sent to, if the kernel has told it.
///
/// # Safety
/// The head's control pointer and length are of control messages that the kernel has written.
unsafe fn told_address(head: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the caller's promise; the macros walk within the buffer, and the data is read as bytes that may lie anywhere.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(head);
        while let Some(known) = control.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (known.cmsg_level, known.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => control = libc::CMSG_NXTHDR(head, control),
            }
        }
    }
    None
}

fn address_of(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let storage = ptr::from_ref(name);
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what lies there, and the storage is large and aligned enough for any.
            let v4 = unsafe { &*storage.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the same.
            let v6 = unsafe { &*storage.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn name_of(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let length = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: plain old data, for which zeroes are valid.
            let mut one: libc::sockaddr_in = unsafe { zeroed() };
            one.sin_family = libc::AF_INET as libc::sa_family_t;
            one.sin_port = v4.port().to_be();
            one.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            // SAFETY: the storage is large and aligned enough for any address.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in>().write(one) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: the same.
            let mut one: libc::sockaddr_in6 = unsafe { zeroed() };
            one.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            one.sin6_port = v6.port().to_be();
            one.sin6_flowinfo = v6.flowinfo();
            one.sin6_addr.s6_addr = v6.ip().octets();
            one.sin6_scope_id = v6.scope_id();
            // SAFETY: the same.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in6>().write(one) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: every byte was zeroed, and all of them are integers.
    (unsafe { name.assume_init() }, length as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    fn received(socket: &UdpSocket, batch: &mut Batch) -> usize {
        // Loopback delivers before `send` returns, but nobody promises it.
        loop {
            match batch.receive(socket.as_raw_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                came => return came.unwrap(),
            }
        }
    }

    fn client(address: &str) -> UdpSocket {
        let client = UdpSocket::bind(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    #[test]
    fn many_are_read_at_once_each_with_its_sender_and_in_order() {
        let socket = client("127.0.0.1:0");
        let (a, b) = (client("127.0.0.1:0"), client("127.0.0.1:0"));
        let mut batch = Batch::default();
        let nothing = batch.receive(socket.as_raw_fd()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        for n in 0..10_u8 {
            let from = if n % 2 == 0 { &a } else { &b };
            from.send_to(&[n; 3], socket.local_addr().unwrap()).unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() < 10 {
            received(&socket, &mut batch);
            seen.extend(batch.iter().map(|r| (r.from, r.to, r.bytes.to_vec())));
        }
        for (n, one) in (0_u8..).zip(seen) {
            let from = if n % 2 == 0 { &a } else { &b }.local_addr().unwrap();
            assert_eq!(one, (from, None, vec![n; 3]));
        }
        assert!(batch.receive(-1).is_err());
        assert_eq!(batch.iter().count(), 0);
    }

    #[test]
    fn the_longest_and_the_shortest_datagram_arrive_whole() {
        let (socket, from) = (client("127.0.0.1:0"), client("127.0.0.1:0"));
        let mut batch = Batch::default();
        for length in [0, 65_507] {
            send(
                from.as_raw_fd(),
                &vec![7; length],
                socket.local_addr().unwrap(),
                None,
            )
            .unwrap();
            assert_eq!(received(&socket, &mut batch), 1);
            let one = batch.iter().next().unwrap();
            assert!(one.bytes == vec![7; length], "{length}");
        }
        assert!(send(from.as_raw_fd(), &[0; 65_508], socket.local_addr().unwrap(), None).is_err());
    }

    /// All of `127.0.0.0/8` is this machine's.
    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        for (listen, asked, own, is_ipv6) in [
            ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0", false),
            ("[::]:0", "::1", "[::1]:0", true),
            // IPv4 at a socket of IPv6.
            ("[::]:0", "127.0.0.3", "127.0.0.1:0", true),
        ] {
            let socket = client(listen);
            tell_addresses(socket.as_raw_fd(), is_ipv6).unwrap();
            let port = socket.local_addr().unwrap().port();
            let asked: SocketAddr = (asked.parse::<IpAddr>().unwrap(), port).into();
            let user = client(own);
            user.send_to(b"?", asked).unwrap();
            let mut batch = Batch::default();
            assert_eq!(received(&socket, &mut batch), 1);
            let one = batch.iter().next().unwrap();
            assert_eq!(one.to.map(|to| to.to_canonical()), Some(asked.ip()), "{listen}");
            send(socket.as_raw_fd(), b"!", one.from, one.to).unwrap();
            let (length, from) = user.recv_from(&mut [0; 9]).unwrap();
            assert_eq!((length, from), (1, asked));
        }
    }
}
