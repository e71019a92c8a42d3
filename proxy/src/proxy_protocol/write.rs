//! The header as an endpoint is told it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use super::header::SIGNATURE;
use super::{Ends, Version};

/// Appends the header that tells of `ends`; of the connection itself where there are none, as probes have none.
pub fn write(version: Version, ends: Option<Ends>, out: &mut Vec<u8>) {
    match version {
        Version::V1 => write_line(ends, out),
        Version::V2 => write_binary(ends, out),
    }
}

/// Both addresses are of one family: what is IPv4 on one side only is written as IPv6 has it.
enum Family {
    V4([u8; 4], [u8; 4]),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Family {
    fn of(ends: &Ends) -> Self {
        let wide = |address| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        match (ends.client.ip().to_canonical(), ends.server.ip().to_canonical()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => Self::V4(client.octets(), server.octets()),
            (client, server) => Self::V6(wide(client), wide(server)),
        }
    }
}

fn write_line(ends: Option<Ends>, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = match ends {
        None => write!(out, "PROXY UNKNOWN\r\n"),
        Some(ends) => {
            let (client_port, server_port) = (ends.client.port(), ends.server.port());
            match Family::of(&ends) {
                Family::V4(client, server) => {
                    let (client, server) = (IpAddr::from(client), IpAddr::from(server));
                    write!(
                        out,
                        "PROXY TCP4 {client} {server} {client_port} {server_port}\r\n"
                    )
                }
                Family::V6(client, server) => {
                    write!(
                        out,
                        "PROXY TCP6 {client} {server} {client_port} {server_port}\r\n"
                    )
                }
            }
        }
    };
}

fn write_binary(ends: Option<Ends>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let Some(ends) = ends else {
        return out.extend_from_slice(&[0x20, 0x00, 0, 0]);
    };
    match Family::of(&ends) {
        Family::V4(client, server) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&client);
            out.extend_from_slice(&server);
        }
        Family::V6(client, server) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&client.octets());
            out.extend_from_slice(&server.octets());
        }
    }
    out.extend_from_slice(&ends.client.port().to_be_bytes());
    out.extend_from_slice(&ends.server.port().to_be_bytes());
}
