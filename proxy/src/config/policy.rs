//! A policy, checked: its lists say something, and nothing in them is in vain.

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::Share;
use foreshade_engine::gradient::Bounds;
use foreshade_settings::{AbsolutePath, Address, At, List, Mistake, Mistakes, Names, Place as Position};
use http::Uri;
use http::uri::Scheme;

use super::check::World;
use super::edits::editable;
use super::error_pages;
use super::route::each;
use super::text::origin::OriginPattern;
use super::text::route::{CertificateUri, HostPattern, Method, Network, Written as Word};
use super::text::{Header, KeysUrl};
use super::{compress, raw, tls};
use crate::cidr::Cidr;
use crate::policy::access::{Access, NETWORKS_MAX};
use crate::policy::authorize::{self, Authorize};
use crate::policy::basic::{Basic, Settings};
use crate::policy::certificate::{Certificate, NAMES_MAX};
use crate::policy::cors::{Cors, ORIGINS_MAX, Origins};
use crate::policy::faults::{self, Faults};
use crate::policy::jwks::fetch::Place;
use crate::policy::jwt::{self, Jwt, KeysFrom};
use crate::policy::maintenance::Maintenance;
use crate::policy::rate::{Key, LIMITS_MAX, Limit, RateLimit};
use crate::policy::{Class, Gate, Policy, Priority, gate};
use crate::route::answer::BODY_BYTES_MAX;
use crate::route::{Match, Route};

/// A policy as it was written.
pub(super) struct Written {
    pub(super) access: Option<raw::Access>,
    pub(super) rates: List<At<raw::RateLimit>, 0>,
    pub(super) concurrency: Option<At<raw::Concurrency>>,
    pub(super) class: raw::Class,
    pub(super) maintenance: Option<raw::Maintenance>,
    pub(super) cors: Option<At<raw::Cors>>,
    pub(super) certificate: Option<raw::ClientCertificate>,
    pub(super) basic: Option<raw::BasicAuth>,
    pub(super) jwt: Option<At<raw::Jwt>>,
    pub(super) authorize: Option<raw::Authorize>,
    pub(super) faults: Option<At<raw::Faults>>,
    pub(super) compress: Option<compress::Written>,
    pub(super) pages: List<At<raw::ErrorPage>, 0>,
    /// How long a request of the route may take.
    pub(super) timeout: Option<Duration>,
}

impl Written {
    /// What a listener asks.
    pub(super) fn of_listener(raw: &mut raw::Listener) -> Self {
        Self {
            access: raw.access.take(),
            rates: std::mem::replace(&mut raw.rate_limits, List::unread()),
            concurrency: None,
            class: raw::Class::Fixed(Priority::Normal),
            maintenance: raw.maintenance.take(),
            cors: None,
            certificate: None,
            basic: raw.basic_auth.take(),
            jwt: raw.jwt.take(),
            authorize: raw.authorize.take(),
            faults: None,
            compress: raw.compression.take(),
            pages: std::mem::replace(&mut raw.error_pages, List::unread()),
            timeout: None,
        }
    }

    /// What a route asks.
    pub(super) fn of_route(raw: &mut raw::Route) -> Self {
        Self {
            access: raw.access.take(),
            rates: std::mem::replace(&mut raw.rate_limits, List::unread()),
            concurrency: raw.concurrency.take(),
            class: std::mem::replace(&mut raw.priority.value, raw::Class::Fixed(Priority::Normal)),
            maintenance: raw.maintenance.take(),
            cors: raw.cors.take(),
            certificate: raw.client_certificate.take(),
            basic: raw.basic_auth.take(),
            jwt: raw.jwt.take(),
            authorize: raw.authorize.take(),
            faults: raw.faults.take(),
            compress: raw.compression.take().map(|raw| raw.value),
            pages: std::mem::replace(&mut raw.error_pages, List::unread()),
            timeout: Some(raw.timeout.value.0),
        }
    }
}

/// A request has one `Authorization`, for its listener and for its route.
pub(super) fn check_logins(
    listener: &Policy,
    routes: &[Route],
    name: Option<Position>,
    mistakes: &mut Mistakes,
) {
    let is_at_odds = |own: &Policy| {
        (listener.basic.is_some() && own.jwt.is_some()) || (listener.jwt.is_some() && own.basic.is_some())
    };
    for route in routes {
        if route.policy.as_deref().is_some_and(is_at_odds) {
            let route = route.called();
            let what = format!(
                "route {route}: of jwt and basicAuth the listener asks for the other, so nobody gets in"
            );
            mistakes.add(Mistake::at(name, what).expected("either basicAuth or jwt"));
        }
    }
}

/// A client can only show a certificate where its listener asks for one.
pub(super) fn check_certificates(
    is_asked: bool,
    routes: &[Route],
    name: Option<Position>,
    mistakes: &mut Mistakes,
) {
    let asks = |route: &&Route| {
        let policy = route.policy.as_deref();
        policy.is_some_and(|policy| policy.certificate.is_some())
    };
    for route in routes.iter().filter(asks).filter(|_| !is_asked) {
        let what = format!(
            "route {}: clientCertificate lets nobody in, because the listener asks nobody for a certificate",
            route.called()
        );
        mistakes.add(Mistake::at(name, what).expected("tls.clientCertificates at the listener"));
    }
}

/// Checks a policy: nothing where nothing was written, `None` where something is wrong, and reported.
pub(super) fn policy(
    written: Written,
    world: &World<'_>,
    mistakes: &mut Mistakes,
) -> Option<Option<Arc<Policy>>> {
    let access = written.access.map(|raw| access(raw, mistakes));
    let rates = rates(written.rates, mistakes);
    if let (Some(raw), Some(timeout)) = (&written.concurrency, written.timeout)
        && raw.value.queue.0 > 0
        && raw.value.wait.0 >= timeout
    {
        let what = "wait is not below the timeout of the route";
        mistakes.add(Mistake::at(raw.place(), what).expected("a wait that leaves time for an answer"));
    }
    let gate = written.concurrency.map(|raw| gate(raw.value, mistakes));
    let maintenance = written.maintenance.map(|raw| maintenance(raw, mistakes));
    let cors = written.cors.map(|raw| cors(raw.value, mistakes));
    if let (Some(_), Some(jwt)) = (&written.basic, &written.jwt) {
        let what = "jwt beside basicAuth: a request has one Authorization, and cannot be let in by both";
        mistakes.add(Mistake::at(jwt.place(), what).expected("either basicAuth or jwt"));
    }
    let certificate = written.certificate.map(|raw| certificate(raw, mistakes));
    let basic = written.basic.map(|raw| basic(raw, mistakes));
    let jwt = written.jwt.map(|raw| jwt(raw.value, world, mistakes));
    let authorize = written
        .authorize
        .map(|raw| authorize(raw, written.timeout, mistakes));
    let faults = written.faults.map(|raw| faults(raw, written.timeout, mistakes));
    let compress = written.compress.map(|raw| compress::compress(raw, mistakes));
    let pages = error_pages::pages(written.pages, world.page, mistakes);
    let policy = Policy {
        access: kept(access)?,
        rates: rates?,
        gate: kept(gate)?,
        maintenance: kept(maintenance)?,
        cors: kept(cors)?,
        certificate: kept(certificate)?,
        basic: kept(basic)?,
        jwt: kept(jwt)?,
        authorize: kept(authorize)?,
        faults: kept(faults)?,
        compress: kept(compress)?,
        pages: pages?,
        class: match written.class {
            raw::Class::Fixed(priority) => Class::Fixed(priority),
            raw::Class::Header(name) => Class::Header(name.0),
        },
    };
    Some((policy != Policy::default()).then(|| Arc::new(policy)))
}

/// What was checked, where it was written; `None` where it is wrong.
fn kept<T>(checked: Option<Option<T>>) -> Option<Option<T>> {
    match checked {
        Some(None) => None,
        Some(sound) => Some(sound),
        None => Some(None),
    }
}

/// Checks who is let in.
fn access(raw: raw::Access, mistakes: &mut Mistakes) -> Option<Access> {
    let raw = raw.0;
    let deny = match raw.deny {
        Some(list) => networks("deny", list, mistakes)?,
        None => Vec::new(),
    };
    let allow = match raw.allow {
        Some(list) => Some(networks("allow", list, mistakes)?),
        None => None,
    };
    for allowed in allow.iter().flatten() {
        if let Some(denied) = deny.iter().find(|denied| denied.value.holds(&allowed.value)) {
            let what = format!("allow: {} is denied by {}", allowed.value, denied.value);
            mistakes.add(
                Mistake::at(allowed.place(), what)
                    .expected("networks of which something is left to be let in"),
            );
        }
    }
    let plain = |networks: Vec<At<Cidr>>| networks.into_iter().map(|network| network.value).collect();
    Some(Access {
        allow: allow.map(plain),
        deny: plain(deny),
    })
}

/// Checks what users are told while it is closed.
fn maintenance(raw: raw::Maintenance, mistakes: &mut Mistakes) -> Option<Maintenance> {
    let length = raw.body.value.0.len();
    if length > BODY_BYTES_MAX {
        let what = format!("body has {length} bytes");
        mistakes.add(Mistake::at(raw.body.place(), what).expected(format!("at most {BODY_BYTES_MAX}")));
    }
    Some(Maintenance {
        body: raw.body.value.0,
        content_type: raw.content_type.0,
        retry_after: raw.retry_after.0,
        except: each(raw.except, |network: Network| Some(network.0))?,
    })
}

/// Checks whose certificates are let in.
fn certificate(raw: raw::ClientCertificate, mistakes: &mut Mistakes) -> Option<Certificate> {
    too_many("uris", &raw.uris, mistakes);
    too_many("dnsNames", &raw.hosts, mistakes);
    too_many("subjects", &raw.subjects, mistakes);
    Some(Certificate {
        uris: each(raw.uris, |uri: At<CertificateUri>| Some(uri.value.0))?,
        hosts: each(raw.hosts, |host: At<HostPattern>| Some(host.value.0))?,
        subjects: each(raw.subjects, |subject: At<Word>| Some(subject.value.0))?,
    })
}

fn too_many<T>(key: &str, list: &List<At<T>, 0>, mistakes: &mut Mistakes) {
    if let Some(next) = list.items.get(NAMES_MAX) {
        let what = format!("{key} has {} entries", list.items.len());
        mistakes.add(Mistake::at(next.place(), what).expected(format!("at most {NAMES_MAX}")));
    }
}

/// Checks who is asked to log in. The file is read when somebody does: a configuration is also checked where it is not.
fn basic(raw: raw::BasicAuth, mistakes: &mut Mistakes) -> Option<Arc<Basic>> {
    let user_header = match &raw.user_header {
        Some(name) => Some(editable(name, mistakes)?),
        None => None,
    };
    Some(Arc::new(Basic::new(Settings {
        realm: raw.realm.0,
        users_file: raw.users_file?.0,
        user_header,
    })))
}

/// Checks whose tokens are asked for. The file of keys is read when a token comes, and a URL is asked when this is in
/// force.
fn jwt(raw: raw::Jwt, world: &World<'_>, mistakes: &mut Mistakes) -> Option<Arc<Jwt>> {
    let raw = raw.0;
    let keys = match (raw.keys_file, raw.keys_url) {
        (Some(file), None) => {
            if let Some(authority) = &raw.keys_ca_file {
                let what = "keysCaFile without keysUrl vouches for nobody";
                mistakes.add(Mistake::at(authority.place(), what).expected("keysUrl, or no keysCaFile"));
            }
            Some(KeysFrom::File(file.value.0))
        }
        (None, Some(url)) => keys_url(&url, raw.keys_ca_file, world, mistakes).map(KeysFrom::Url),
        (Some(_), Some(url)) => {
            let what = "keys come from a file or from a URL, and these from both";
            mistakes.add(Mistake::at(url.place(), what).expected("either keysFile or keysUrl"));
            None
        }
        // Reported when it was read.
        (None, None) => None,
    };
    let claims = each(raw.claims, |raw: raw::Claim| {
        let header = raw.header.as_ref().and_then(|name| editable(name, mistakes));
        Some((raw.claim?.0, header?))
    });
    let audiences = raw.audiences?;
    Some(Arc::new(Jwt::new(jwt::Settings {
        keys: keys?,
        issuer: raw.issuer?.0,
        audiences: each(audiences, |audience: Word| Some(audience.0))?,
        leeway: raw.leeway.0,
        claims: claims?,
    })))
}

/// Where keys are fetched, and with whose word that it is the issuer.
fn keys_url(
    url: &At<KeysUrl>,
    authorities: Option<At<AbsolutePath>>,
    world: &World<'_>,
    mistakes: &mut Mistakes,
) -> Option<Place> {
    let here = url.place();
    // Parsed already.
    let url: Uri = url.value.0.parse().ok()?;
    if url.scheme() != Some(&Scheme::HTTPS) {
        if let Some(authority) = authorities {
            let what = "keysCaFile has no effect: the keys are fetched in the clear";
            mistakes
                .add(Mistake::at(authority.place(), what).expected("a keysUrl with https, or no keysCaFile"));
        }
        return Some(Place { url, tls: None });
    }
    let tls = tls::issuer(authorities, here, world.originate, mistakes)?;
    Some(Place { url, tls: Some(tls) })
}

/// Checks who is asked whether a request may go on. `limit` is how long a request of the route may take.
fn authorize(
    raw: raw::Authorize,
    limit: Option<Duration>,
    mistakes: &mut Mistakes,
) -> Option<Arc<Authorize>> {
    if limit.is_some_and(|limit| raw.timeout.value.0 >= limit) {
        let what = "timeout is not below the timeout of the route";
        mistakes
            .add(Mistake::at(raw.timeout.place(), what).expected("a timeout that leaves time for an answer"));
    }
    let headers = each(raw.headers, |name: At<Header>| editable(&name, mistakes));
    let answer_headers = each(raw.answer_headers, |name: At<Header>| editable(&name, mistakes));
    let address = match raw.address? {
        Address::Ip(address) => address.to_string(),
        Address::Host(host, port) => format!("{host}:{port}"),
    };
    Some(Arc::new(Authorize::new(authorize::Settings {
        address,
        path: raw.path.0,
        headers: headers.map(|named| {
            if named.is_empty() {
                authorize::SHOWN.to_vec()
            } else {
                named
            }
        })?,
        answer_headers: answer_headers?,
        timeout: raw.timeout.value.0,
        on_failure: raw.on_failure,
        concurrency: usize::try_from(raw.concurrency.0).ok()?,
        cache: raw.cache.map(|cache| cache.0),
    })))
}

/// Checks what a drill does. `limit` is how long a request of the route may take.
fn faults(raw: At<raw::Faults>, limit: Option<Duration>, mistakes: &mut Mistakes) -> Option<Arc<Faults>> {
    let place = raw.place();
    let raw::Faults { delay, abort, header } = raw.value;
    if delay.is_none() && abort.is_none() {
        mistakes.add(Mistake::at(place, "faults does nothing").expected("delay, abort, or both"));
    }
    let delay = match delay {
        Some(delay) => {
            let time = delay.time?;
            if limit.is_some_and(|limit| time.value.0 >= limit) {
                let what = "for is not below the timeout of the route";
                mistakes
                    .add(Mistake::at(time.place(), what).expected("a delay that leaves time for an answer"));
            }
            Some((time.value.0, Share::clamped(delay.share?.0)))
        }
        None => None,
    };
    let abort = match abort {
        Some(abort) => Some((
            u16::try_from(abort.status.0).ok()?,
            Share::clamped(abort.share?.0),
        )),
        None => None,
    };
    let header = header.map(|name| name.0);
    Some(Arc::new(Faults::new(faults::Settings { delay, abort, header })))
}

/// Checks whose pages may read.
fn cors(raw: raw::Cors, mistakes: &mut Mistakes) -> Option<Cors> {
    let origins = origins(raw.origins?, &raw.credentials, mistakes);
    Some(Cors {
        origins: origins?,
        methods: each(raw.methods, |method: Method| Some(method.0))?,
        headers: each(raw.allow_headers, |name: Header| Some(name.0))?,
        expose: each(raw.expose_headers, |name: Header| Some(name.0))?,
        credentials: raw.credentials.value,
        max_age_s: raw.max_age.0.as_secs(),
    })
}

fn origins(
    list: At<List<At<OriginPattern>, 1>>,
    credentials: &At<bool>,
    mistakes: &mut Mistakes,
) -> Option<Origins> {
    let (place, list) = (list.place(), list.value);
    let count = list.items.len();
    if count > ORIGINS_MAX {
        let what = format!("origins has {count} entries");
        mistakes.add(Mistake::at(place, what).expected(format!("at most {ORIGINS_MAX}")));
    }
    let any = list
        .items
        .iter()
        .find(|one| matches!(one.value, OriginPattern::Any));
    let Some(any) = any else {
        let like = |one: At<OriginPattern>| match one.value {
            OriginPattern::Like(one) => Some(one),
            OriginPattern::Any => None,
        };
        return each(list, like).map(Origins::Listed);
    };
    if count > 1 {
        let what = "origins: '*' is every site, and the others are among them";
        mistakes.add(Mistake::at(any.place(), what).expected("'*' alone, or no '*'"));
    }
    if credentials.value {
        let what = "credentials with '*': every site could act for its visitors";
        mistakes
            .add(Mistake::at(credentials.place(), what).expected("the sites that may, or no credentials"));
    }
    Some(Origins::Any)
}

/// A preflight asks with OPTIONS, so a route that is to answer it has to take that.
pub(super) fn check_preflights(cors: Option<Position>, matches: Option<&Match>, mistakes: &mut Mistakes) {
    let methods = matches
        .map(|matches| matches.methods.as_slice())
        .unwrap_or_default();
    if cors.is_some() && !methods.is_empty() && !methods.iter().any(|method| method == "OPTIONS") {
        let what = "cors: browsers ask with OPTIONS first, and the route does not take it";
        mistakes.add(Mistake::at(cors, what).expected("OPTIONS among the methods of the route"));
    }
}

/// Checks a limit of requests under way.
pub(super) fn gate(raw: raw::Concurrency, mistakes: &mut Mistakes) -> Option<Arc<Gate>> {
    let limit = raw.limit?;
    let adaptive = raw.adaptive.map(|adaptive| {
        let place = adaptive.place();
        let raw::Adaptive { min, start, recheck } = adaptive.value;
        if min.0 > limit.value.0 {
            let what = format!("adaptive: min is {}, and limit {}", min.0, limit.value.0);
            mistakes.add(Mistake::at(place, what).expected("a min that is not above limit"));
        }
        Bounds {
            min: min.0.min(limit.value.0),
            max: limit.value.0,
            start: start.0,
            recheck: recheck.0,
        }
    });
    Some(Arc::new(Gate::new(gate::Limit {
        concurrency: limit.value.0,
        adaptive,
        room: raw.queue.0,
        wait: raw.wait.0,
    })))
}

/// Checks how many requests there may be.
fn rates(raw: List<At<raw::RateLimit>, 0>, mistakes: &mut Mistakes) -> Option<Vec<Arc<RateLimit>>> {
    let names = raw.items.iter().map(|limit| limit.value.name.as_ref());
    Names::collect("rate limit", names, raw.whole, mistakes);
    if let Some(fifth) = raw.items.get(LIMITS_MAX) {
        let what = format!("rateLimits has {} entries", raw.items.len());
        mistakes.add(Mistake::at(fifth.place(), what).expected(format!("at most {LIMITS_MAX}")));
    }
    each(raw, |limit| {
        let raw = limit.value;
        let rate_rps = raw.rate.map(|rate| rate.0);
        let limit = Limit {
            name: raw.name?.value,
            rate_rps: rate_rps?,
            burst: raw
                .burst
                .map_or_else(|| whole(rate_rps?), |burst| Some(burst.0))?,
            key: match raw.key {
                raw::LimitKey::Client => Key::Client,
                raw::LimitKey::Everybody => Key::Everybody,
                raw::LimitKey::Header(name) => Key::Header(name.0),
            },
            keys: usize::try_from(raw.keys.0).ok()?,
            dry_run: raw.dry_run,
            tells: raw.headers,
        };
        Some(Arc::new(RateLimit::new(limit)))
    })
}

/// What a second brings, as a burst.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a burst may be"
)]
fn whole(rate_rps: f64) -> Option<u32> {
    Some(rate_rps.ceil().clamp(1.0, f64::from(raw::BURST_MAX)) as u32)
}

fn networks(key: &str, list: At<List<At<Network>, 1>>, mistakes: &mut Mistakes) -> Option<Vec<At<Cidr>>> {
    let (place, list) = (list.place(), list.value);
    let count = list.items.len();
    if count > NETWORKS_MAX {
        let what = format!("{key} has {count} entries");
        mistakes.add(Mistake::at(place, what).expected(format!("at most {NETWORKS_MAX}")));
        return None;
    }
    let networks = list
        .items
        .into_iter()
        .map(|network| network.with(network.value.0));
    let networks = networks.collect();
    list.whole.then_some(networks)
}
