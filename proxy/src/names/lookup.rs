//! Asking for a name, by hickory: as the machine does it (`/etc/resolv.conf`, `/etc/hosts`), or by the name servers that
//! the configuration names.
//!
//! IPv4 addresses, or IPv6 where there are none: a machine with one of each would be two endpoints. Of a service only the
//! targets with the lowest priority count, as RFC 2782 has it; the others are for when these are gone, which is what a
//! shadow is for. Nothing is kept here: how long an answer holds is the book's business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup as Response;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use super::book::Answer;
use crate::config::{ADDRESSES_MAX, DnsName};

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who is asked.
#[derive(Clone)]
pub(super) struct Lookup(Result<Arc<TokioResolver>, String>);

impl Lookup {
    /// Asks these servers, or where there are none those of this machine, whose configuration is read now.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let system = || TokioResolver::builder_tokio().map_err(|e| format!("this machine's resolver: {e}"));
        let builder = if servers.is_empty() {
            system()
        } else {
            let servers = servers.iter().map(|server| {
                let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                (udp.port, tcp.port) = (server.port(), server.port());
                NameServerConfig::new(server.ip(), true, vec![udp, tcp])
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            Ok(TokioResolver::builder_with_config(
                config,
                TokioRuntimeProvider::default(),
            ))
        };
        let resolver = builder.and_then(|mut builder| {
            restrain(builder.options_mut());
            builder.build().map_err(|e| e.to_string())
        });
        Self(resolver.map(Arc::new))
    }

    /// The addresses of a name, at least one.
    pub(super) async fn ask(&self, name: &DnsName) -> Result<Answer, String> {
        let resolver = self.0.as_ref().map_err(Clone::clone)?;
        let answer = match name {
            DnsName::Host(host, port) => addresses(resolver, host, *port, 1).await?,
            DnsName::Service(service) => targets(resolver, service).await?,
        };
        if answer.addresses.is_empty() {
            return Err("no addresses".to_owned());
        }
        Ok(answer)
    }
}

fn restrain(options: &mut ResolverOpts) {
    options.timeout = PATIENCE;
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.cache_size = 0;
}

async fn addresses(resolver: &TokioResolver, host: &str, port: u16, weight: u16) -> Result<Answer, String> {
    let found = resolver.lookup_ip(host).await.map_err(|e| e.to_string())?;
    Ok(Answer {
        addresses: found
            .iter()
            .map(|ip| (SocketAddr::new(ip, port), weight))
            .collect(),
        life: life(found.as_lookup()),
    })
}

async fn targets(resolver: &TokioResolver, service: &str) -> Result<Answer, String> {
    let found = resolver.srv_lookup(service).await.map_err(|e| e.to_string())?;
    let services = || {
        found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv),
            _ => None,
        })
    };
    let first = services().map(|srv| srv.priority).min();
    let mut all = Answer {
        addresses: Vec::new(),
        life: life(&found),
    };
    let mut failed = None;
    for srv in services()
        .filter(|srv| Some(srv.priority) == first)
        .take(ADDRESSES_MAX)
    {
        match addresses(resolver, &srv.target.to_string(), srv.port, srv.weight).await {
            Ok(answer) => {
                all.life = all.life.min(answer.life);
                all.addresses.extend(answer.addresses);
            }
            Err(error) => failed = Some(format!("{}: {error}", srv.target)),
        }
    }
    match failed {
        // Half an answer would take the other half's endpoints away.
        Some(error) => Err(error),
        None => Ok(all),
    }
}

/// How long all records of an answer hold.
fn life(response: &Response) -> Duration {
    let seconds = response.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(seconds.unwrap_or_default().into())
}
