//! Headers that are sound, headers that are not, and that every cut of one reads alike.

use super::*;
use proptest::prelude::*;

fn ends(client: &str, server: &str) -> Ends {
    Ends {
        client: client.parse().unwrap(),
        server: server.parse().unwrap(),
    }
}

/// How many bytes belong to the header, and what it says.
fn read(bytes: &[u8]) -> Result<(usize, Option<Header>), Refusal> {
    HeaderReader::default().take(bytes)
}

fn whole(bytes: &[u8]) -> Result<Option<Ends>, Refusal> {
    let (taken, header) = read(bytes)?;
    assert_eq!(taken, bytes.len(), "{bytes:?}");
    Ok(header.expect("it is whole").ends)
}

/// A header of version 2 with this command and family, and this behind it.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 0x04, 0x01, 0xBB];

#[test]
fn a_line_names_both_ends() {
    assert_eq!(
        whole(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
        Ok(Some(ends("192.0.2.1:56324", "198.51.100.2:443")))
    );
    assert_eq!(
        whole(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"),
        Ok(Some(ends("[2001:db8::1]:1", "[::1]:65535")))
    );
    assert_eq!(whole(b"PROXY UNKNOWN\r\n"), Ok(None));
    assert_eq!(whole(b"PROXY UNKNOWN ffff::1 what else 1 2\r\n"), Ok(None));
}

#[test]
fn what_follows_the_header_is_not_taken() {
    let bytes = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET / HTTP/1.1\r\n";
    assert_eq!(read(bytes).unwrap().0, 45);
    let mut bytes = binary(0x21, 0x11, &V4);
    bytes.extend_from_slice(b"\x16\x03\x01");
    assert_eq!(read(&bytes).unwrap().0, 28);
}

#[test]
fn a_line_that_is_the_least_unusual_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4\t192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "proxy UNKNOWN\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\n\0\r\nQUIT\r",
        "SSH-2.0-x\r\n",
    ] {
        assert_eq!(whole(line.as_bytes()), Err(Refusal::ProxyHeader), "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    assert_eq!(read(long.as_bytes()).unwrap_err(), Refusal::ProxyTooLong);
}

#[test]
fn the_binary_form_names_both_ends_and_may_say_more() {
    let expected = Ok(Some(ends("192.0.2.1:56324", "198.51.100.2:443")));
    assert_eq!(whole(&binary(0x21, 0x11, &V4)), expected);
    let more = [&V4[..], &[0x04, 0, 0], &[0xEA, 0, 2, 7, 7]].concat();
    assert_eq!(whole(&binary(0x21, 0x11, &more)), expected);
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
    assert_eq!(
        whole(&binary(0x21, 0x21, &v6)),
        Ok(Some(ends("[::1]:3", "[::2]:4")))
    );
}

#[test]
fn who_is_not_named_is_who_has_connected() {
    for bytes in [
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, &V4),
        binary(0x20, 0xFF, &[1, 2, 3]),
        binary(0x21, 0x00, &[]),
        binary(0x21, 0x00, &[0x04, 0, 1, 9]),
        binary(0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(whole(&bytes), Ok(None), "{bytes:?}");
    }
}

#[test]
fn a_binary_header_that_breaks_a_rule_is_refused() {
    for bytes in [
        binary(0x11, 0x11, &V4),
        binary(0x22, 0x11, &V4),
        binary(0x21, 0x12, &V4),
        binary(0x21, 0x41, &V4),
        binary(0x21, 0x11, &V4[..11]),
        binary(0x21, 0x21, &V4),
        binary(0x21, 0x31, &[0; 215]),
        binary(0x21, 0x11, &[&V4[..], &[4]].concat()),
        binary(0x21, 0x11, &[&V4[..], &[4, 0, 2, 0]].concat()),
        binary(0x21, 0x11, &[&V4[..], &[3, 0, 3, 0, 0, 0]].concat()),
    ] {
        assert_eq!(whole(&bytes), Err(Refusal::ProxyHeader), "{bytes:?}");
    }
    let long = binary(0x21, 0x11, &[0; HEADER_BYTES_MAX]);
    assert_eq!(read(&long).unwrap_err(), Refusal::ProxyTooLong);
}

#[test]
fn a_checksum_has_to_be_right_where_there_is_one() {
    let zeroed = binary(
        0x21,
        0x11,
        &[&V4[..], &[3, 0, 4, 0, 0, 0, 0], &[4, 0, 1, 9]].concat(),
    );
    let sum = crc32c::crc32c(zeroed.iter().copied()).to_be_bytes();
    let mut right = zeroed;
    right[31..35].copy_from_slice(&sum);
    assert!(whole(&right).unwrap().is_some());
    for at in [16, 31, right.len() - 1] {
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        assert_eq!(whole(&wrong), Err(Refusal::ProxyChecksum), "byte {at}");
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(client in any_address(), server in any_address(), second: bool, alone: bool) {
        let version = if second { Version::V2 } else { Version::V1 };
        let ends = (!alone).then_some(Ends { client, server });
        let mut bytes = Vec::new();
        write(version, ends, &mut bytes);
        let plain = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        let both = |ends: Option<Ends>| ends.map(|ends| (plain(ends.client), plain(ends.server)));
        prop_assert_eq!(both(whole(&bytes).unwrap()), both(ends));
    }

    #[test]
    fn every_cut_of_a_header_reads_alike(
        client in any_address(), server in any_address(), second: bool, size in 1usize..40,
        flip in any::<prop::sample::Index>(),
        bit in 0u8..9,
    ) {
        let version = if second { Version::V2 } else { Version::V1 };
        let mut bytes = Vec::new();
        write(version, Some(Ends { client, server }), &mut bytes);
        if bit < 8 {
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        bytes.extend_from_slice(b"behind it");
        let mut reader = HeaderReader::default();
        let (mut taken, mut pieced) = (0, Ok(None));
        for piece in bytes.chunks(size) {
            match reader.take(piece) {
                Ok((n, header)) => {
                    taken += n;
                    pieced = Ok(header);
                    if n < piece.len() || header.is_some() { break; }
                }
                Err(refusal) => { pieced = Err(refusal); break; }
            }
        }
        match read(&bytes) {
            Ok((n, header)) => prop_assert_eq!((Ok(header), n), (pieced, taken)),
            Err(refusal) => prop_assert_eq!(pieced, Err(refusal)),
        }
    }
}

#[tokio::test]
async fn from_a_socket_the_header_is_taken_and_not_one_byte_more() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ProxyProtocol {
        from: Vec::new(),
        timeout: Duration::from_secs(20),
    };
    let mut header = Vec::new();
    write(
        Version::V2,
        Some(ends("192.0.2.1:1", "198.51.100.2:2")),
        &mut header,
    );
    for cut in [1, 9, 27, 28, 33] {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut tcp = listener.accept().await.unwrap().0;
        let bytes = [&header[..], b"hello"].concat();
        client.write_all(&bytes[..cut]).await.unwrap();
        let (taken, ()) = tokio::join!(settings.take(&tcp), async {
            tokio::task::yield_now().await;
            client.write_all(&bytes[cut..]).await.unwrap();
        });
        assert_eq!(taken, Ok(Some(ends("192.0.2.1:1", "198.51.100.2:2"))));
        let mut rest = [0; 5];
        tcp.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"hello", "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_or_goes_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ProxyProtocol {
        from: Vec::new(),
        timeout: Duration::from_secs(3),
    };
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let tcp = listener.accept().await.unwrap().0;
    client.try_write(b"PROXY TCP4").unwrap();
    assert_eq!(settings.take(&tcp).await, Err(Refusal::ProxySlow));
    drop(client);
    assert_eq!(settings.take(&tcp).await, Err(Refusal::ProxyHeader));
}
