//! The controller whose plans this proxy follows: where it is, how the two know each other, and where the plan is kept.
//!
//! Whoever can speak as the controller can move all traffic. So beyond this machine there has to be something that proves
//! who it is, and who the proxy is: TLS, with a certificate of the proxy's own if the controller asks for one, or a token.
//! Files are not read here: a configuration is also checked where the secrets are not.

use std::path::PathBuf;

use foreshade_contract::Name;

use foreshade_settings::{AbsolutePath, Address, At, Mistake, Mistakes, is_of_this_machine, section};

use super::text::Host;

/// The controller, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Where it listens: host and port.
    pub address: String,
    /// What this proxy is called there; the machine's name where `None`.
    pub name: Option<Name>,
    /// The file with the token that proves who this proxy is.
    pub token_file: Option<PathBuf>,
    /// How the two prove who they are; in the clear where `None`.
    pub tls: Option<ControllerTls>,
    /// Where the last good plan is kept.
    pub plan_file: PathBuf,
}

/// How the two ends of the link prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerTls {
    /// The file with the authorities that vouch for the controller.
    pub ca_file: PathBuf,
    /// The files with the proxy's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the controller's certificate has to bear; its host where `None`.
    pub server_name: Option<String>,
}

section! {
    /// The controller.
    ControllerKeys "a follow section":
    /// Where it listens.
    address "address": required At<Address>;
    /// What this proxy is called there, unique among its proxies; the machine's name where left out.
    name "name": optional Name;
    /// File with the bearer token that the controller asks for. Others may not read it.
    token_file "tokenFile": optional AbsolutePath;
    /// TLS for the link. Beyond this machine it needs this, or tokenFile.
    tls "tls": optional TlsKeys;
    /// Where the last good plan is kept: the proxy starts with it when the controller is not there. Its folder has to exist.
    plan_file "planFile": required AbsolutePath;
}

section! {
    /// TLS with the other side.
    TlsKeys "a tls section":
    /// File with the authorities that vouch for the other side, in PEM.
    ca_file "caFile": required AbsolutePath;
    /// File with the proxy's own certificate and those above it, in PEM; with keyFile.
    cert_file "certFile": optional At<AbsolutePath>;
    /// File with its key, in PEM; with certFile.
    key_file "keyFile": optional At<AbsolutePath>;
    /// Name that the other side's certificate has to bear; the host of its address where left out.
    server_name "serverName": optional Host;
}

/// The controller, if the way to it is one that only those can use who may.
pub(super) fn controller(keys: ControllerKeys, mistakes: &mut Mistakes) -> Option<Controller> {
    let tls = match keys.tls {
        Some(keys) => Some(tls(keys, mistakes)?),
        None => None,
    };
    let token_file = keys.token_file.map(|path| path.0);
    let address = keys.address?;
    if tls.is_none() && token_file.is_none() && !is_here(&address.value) {
        let what = "address: the controller is beyond this machine, and nothing proves who it is";
        mistakes.add(
            Mistake::at(address.place(), what)
                .expected("a loopback address, a tls section, or a tokenFile")
                .hint("add tls: with caFile, certFile and keyFile".to_owned()),
        );
    }
    Some(Controller {
        address: match &address.value {
            Address::Ip(address) => address.to_string(),
            Address::Host(host, port) => format!("{host}:{port}"),
        },
        name: keys.name,
        token_file,
        tls,
        plan_file: keys.plan_file?.0,
    })
}

fn is_here(address: &Address) -> bool {
    match address {
        Address::Ip(address) => is_of_this_machine(address.ip()),
        Address::Host(host, _) => host == "localhost",
    }
}

/// TLS, where its keys go together.
pub(super) fn tls(keys: TlsKeys, mistakes: &mut Mistakes) -> Option<ControllerTls> {
    let identity = match (keys.cert_file, keys.key_file) {
        (Some(cert), Some(key)) => Some((cert.value.0, key.value.0)),
        (None, None) => None,
        (Some(alone), None) | (None, Some(alone)) => {
            let what = "a certificate and its key come together";
            mistakes.add(Mistake::at(alone.place(), what).expected("certFile and keyFile, or neither"));
            return None;
        }
    };
    Some(ControllerTls {
        ca_file: keys.ca_file?.0,
        identity,
        server_name: keys.server_name.map(|name| name.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn read(controller: &str) -> Result<Option<Controller>, String> {
        let text = format!(
            "apiVersion: foreshade/v1\nfollow: {controller}\n\
             listeners: [{{ name: web, address: 127.0.0.1:80, routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, endpoints: [{{ name: a, address: 127.0.0.1:9001 }}] }}]\n"
        );
        let read = config::parse(&text, "test").map(|config| config.controller);
        read.map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_controller_on_this_machine_needs_an_address_and_a_place_for_the_plan() {
        let found = read("{ address: 127.0.0.1:9700, planFile: /var/lib/foreshade/plan }").unwrap();
        let found = found.unwrap();
        assert_eq!((found.address.as_str(), &found.tls), ("127.0.0.1:9700", &None));
        assert!(read("{ address: localhost:9700, planFile: /p }").is_ok());
        let wrong = read("{ address: 127.0.0.1:9700 }").unwrap_err();
        assert!(wrong.contains("planFile"), "{wrong}");
    }

    #[test]
    fn beyond_this_machine_something_has_to_prove_who_it_is() {
        let wrong = read("{ address: controller.example:9700, planFile: /p }").unwrap_err();
        assert!(wrong.contains("beyond this machine"), "{wrong}");
        assert!(read("{ address: 10.0.0.1:9700, planFile: /p, tokenFile: /t }").is_ok());
        let tls = "tls: { caFile: /ca, certFile: /c, keyFile: /k, serverName: ctl.example }";
        let found = read(&format!("{{ address: 10.0.0.1:9700, planFile: /p, {tls} }}"));
        let tls = found.unwrap().unwrap().tls.unwrap();
        assert_eq!(tls.identity, Some(("/c".into(), "/k".into())));
        assert_eq!(tls.server_name.as_deref(), Some("ctl.example"));
    }

    #[test]
    fn a_certificate_without_its_key_is_a_mistake() {
        let wrong = read("{ address: 10.0.0.1:9700, planFile: /p, tls: { caFile: /ca, keyFile: /k } }");
        let wrong = wrong.unwrap_err();
        assert!(wrong.contains("come together"), "{wrong}");
    }
}
