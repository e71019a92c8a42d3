//! Certificates that an authority issues: what a configuration says of them, and what is wrong where it cannot be.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use foreshade_proxy::acme::Proof;
use foreshade_proxy::config::{self, Config, Mistakes};

const ACME: &str = "acme: { directory: 'https://acme.example:14000/dir/', termsOfServiceAgreed: true, storage: /nowhere/acme }";
const PLAIN: &str = "  - { name: plain, address: '127.0.0.1:8080', routes: [{ cluster: shop }] }\n";

/// A file with these certificates of a listener, whatever stands at its top, and other listeners.
fn parse(top: &str, certificates: &str, listeners: &str) -> Result<Config, Mistakes> {
    let text = format!(
        "apiVersion: foreshade/v1\n{top}\nlisteners:\n  - name: web\n    address: 127.0.0.1:8443\n    tls: {{ certificates: \
         [{certificates}] }}\n    routes: [{{ cluster: shop }}]\n{listeners}clusters:\n  - {{ name: shop, endpoints: [{{ \
         name: a, address: '127.0.0.1:9001' }}] }}\n"
    );
    config::parse(&text, "shop.yaml")
}

fn mistake(top: &str, certificates: &str, listeners: &str) -> String {
    match parse(top, certificates, listeners) {
        Err(mistakes) => mistakes.to_string(),
        Ok(_) => panic!("no mistake: {certificates}"),
    }
}

#[test]
fn a_certificate_that_is_ordered_has_a_file_of_its_own_and_is_stood_in_for_until_then() {
    let names = "{ acme: { names: [shop.example, b.example, A.example] } }";
    let config = parse(ACME, names, PLAIN).unwrap();
    let wanted: Vec<_> = config.wanted().collect();
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].names, ["shop.example", "a.example", "b.example"]);
    assert_eq!(wanted[0].proof, Proof::TlsAlpn);
    let folder = "/nowhere/acme/acme.example%3A14000%2Fdir%2F";
    assert_eq!(
        wanted[0].file.to_str().unwrap(),
        format!("{folder}/shop.example.pem")
    );
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(
        tls.certificates()[0].names,
        ["shop.example", "a.example", "b.example"]
    );
    assert!(tls.proves() && tls.knows(Some("a.example")));
    // Nobody has to answer in the clear, and what stands in is the same at each look.
    assert!(!config.listeners[1].answers_challenges);
    let again = parse(ACME, names, PLAIN).unwrap();
    assert!(tls.is_same_as(again.listeners[0].tls.as_ref().unwrap()));
    let warnings: Vec<_> = config.warnings().collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("has been issued yet"),
        "{warnings:?}"
    );
}

#[test]
fn requests_in_the_clear_are_answered_where_that_is_how_names_are_proven() {
    let names = "{ acme: { names: [shop.example], challenge: http-01 } }";
    let config = parse(ACME, names, PLAIN).unwrap();
    let answers: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| listener.answers_challenges)
        .collect();
    assert_eq!(answers, [false, true]);
    assert!(!config.listeners[0].tls.as_ref().unwrap().proves());
}

#[test]
fn what_could_not_be_issued_is_a_mistake() {
    let refused = ACME.replace("true", "false");
    let clear = ACME.replace("https", "http");
    let mail = ACME.replace("storage", "contacts: [ops@shop.example], storage");
    let one = "{ acme: { names: [shop.example] } }";
    let label = "a".repeat(61);
    let long = format!("{{ acme: {{ names: [{label}.{label}.{label}.{label}.a] }} }}");
    let shorter = long.replace(".a]", "]");
    assert!(parse(ACME, &shorter, PLAIN).is_ok());
    for (top, certificates, listeners, expected) in [
        (ACME, long.as_str(), PLAIN, "is too long for one"),
        ("", one, PLAIN, "there is nobody to issue it"),
        (refused.as_str(), one, PLAIN, "termsOfServiceAgreed"),
        (clear.as_str(), one, PLAIN, "a URL that begins with https://"),
        (mail.as_str(), one, PLAIN, "write mailto:ops@shop.example"),
        (
            ACME,
            "{ acme: { names: ['*.shop.example'] } }",
            PLAIN,
            "can only be proven by DNS",
        ),
        (ACME, "{ acme: { names: [192.0.2.1] } }", PLAIN, "is an address"),
        (ACME, "{ acme: { names: [] } }", PLAIN, "names is empty"),
        (
            ACME,
            "{ acme: { names: [shop.example], challenge: http-01 } }",
            "",
            "nobody would answer",
        ),
        (
            ACME,
            "{ acme: { names: [shop.example] }, certFile: /c.pem }",
            PLAIN,
            "has no files of its own",
        ),
        (ACME, "{ certFile: /c.pem }", PLAIN, "lacks certFile or keyFile"),
        (
            ACME,
            "{ acme: { names: [a.example] } }, { acme: { names: [a.example, b.example] } }",
            PLAIN,
            "has other names or another challenge",
        ),
    ] {
        let said = mistake(top, certificates, listeners);
        assert!(said.contains(expected), "{certificates}: {said}");
    }
    // Certificates that come from elsewhere leave the section without effect.
    let text = format!(
        "apiVersion: foreshade/v1\n{ACME}\nlisteners:\n{PLAIN}clusters:\n  - {{ name: shop, endpoints: [{{ name: a, address: \
         '127.0.0.1:9001' }}] }}\n"
    );
    let said = config::parse(&text, "shop.yaml").err().unwrap().to_string();
    assert!(said.contains("acme has no effect"), "{said}");
}

#[test]
fn every_directory_has_a_folder_of_its_own() {
    let folder = |directory: &str| {
        let acme = ACME.replace("acme.example:14000/dir/", directory);
        let config = parse(&acme, "{ acme: { names: [shop.example] } }", PLAIN).unwrap();
        config.acme.unwrap().folder.clone()
    };
    let directories = [
        "a/b/c",
        "a/b-c",
        "a-b/c",
        "a/b/c/",
        "a/b%2Fc",
        "a:443/b/c",
        "a/b/C",
    ];
    let folders: std::collections::BTreeSet<_> = directories.map(folder).into();
    assert_eq!(folders.len(), directories.len(), "{folders:?}");
    assert!(
        folders
            .iter()
            .all(|folder| folder.parent().unwrap().ends_with("acme"))
    );
}
