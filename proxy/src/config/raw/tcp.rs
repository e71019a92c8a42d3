//! The keys of what is carried and not read: TCP, TLS by the name that is asked for, UDP; and the PROXY protocol.

use foreshade_settings::{At, Lasting, List, Reference, choice, seconds, section};

use crate::config::text::route::{HostPattern, Network};

use super::Limit;

/// How long a connection may rest.
pub(in crate::config) type Patience = Lasting<1, 86_400_000>;

/// How long a connection may live: up to thirty days.
pub(in crate::config) type Life = Lasting<1_000, 2_592_000_000>;

/// What users speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Protocol {
    Http,
    Tcp,
    TlsPassthrough,
    Udp,
}

choice!(Protocol: "http" Http, "tcp" Tcp, "tls-passthrough" TlsPassthrough, "udp" Udp);

section! {
    /// Names that clients ask for, and who serves them.
    ServerNames "an entry of serverNames":
    /// Names of servers, or *. and a domain for all names that have one label more.
    names "names": required List<At<HostPattern>, 1>;
    /// Name of the cluster that serves them.
    cluster "cluster": required At<Reference>;
}

section! {
    /// Who tells of clients before anything else.
    ProxyProtocol "a proxyProtocol section":
    /// Balancers whose connections begin with a PROXY header, v1 or v2: addresses and networks, as 10.0.0.0/8. Whoever
    /// connects from elsewhere is refused.
    from "from": required List<Network, 1>;
    /// Time for the whole header.
    timeout "timeout": default Limit = seconds(3);
}

/// How endpoints are told of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Announce {
    Off,
    V1,
    V2,
}

choice!(Announce: "off" Off, "v1" V1, "v2" V2);
