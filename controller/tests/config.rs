//! The controller's configuration: what sound files say, and every mistake at its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foreshade_controller::config::{self, AdminAddress, Config, Mistakes, Occasion, PlannedStore};
use foreshade_controller::journal::ENTRIES_MAX;
use foreshade_engine::lifecycle::policy::{self as lifecycle, Point};
use foreshade_engine::placement::Diversity;
use foreshade_engine::verdict::JudgePolicy;
use proptest::prelude::*;
use serde_json::Value as Json;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn parse(text: &str) -> Result<Config, Mistakes> {
    config::parse(text, "x.yaml")
}

/// What is wrong with a text; fails if nothing is.
fn wrong(text: &str) -> String {
    match parse(text) {
        Ok(config) => panic!("sound: {config:?}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

/// A file with these lines in its controller section.
fn controller(lines: &str) -> String {
    let lines = lines
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect::<String>();
    format!("apiVersion: foreshade/v1\ncontroller:\n  store: /tmp/x.redb\n{lines}{CLUSTERS}")
}

const CLUSTERS: &str = "clusters:
  - name: shop
    endpoints:
      - { name: a, address: 127.0.0.1:9001, shadow: a-standby }
      - { name: b, address: 127.0.0.1:9002 }
    shadows:
      - { name: a-standby, address: 127.0.0.1:9101 }
";

fn names(config: &Config) -> Vec<String> {
    let shown = |pair: &config::Pair| {
        let shadow = pair.shadow.as_ref().map_or("-", |name| name.as_str());
        format!("{} {shadow}", pair.id)
    };
    config.pairs.iter().map(shown).collect()
}

#[test]
fn a_controller_that_says_nothing_has_its_defaults_and_the_pairs_of_the_clusters() {
    let config = parse(&format!("apiVersion: foreshade/v1\ncontroller: {{}}\n{CLUSTERS}")).unwrap();
    assert_eq!(
        config.store,
        PlannedStore::Embedded("/var/lib/foreshade/controller.redb".into())
    );
    assert_eq!(config.link.address, "127.0.0.1:9903".parse().unwrap());
    assert_eq!(
        config.api.door.address,
        AdminAddress::Tcp("127.0.0.1:9902".parse().unwrap())
    );
    assert_eq!(
        (&config.api.door.token_file, config.api.links.is_none()),
        (&None, true)
    );
    assert_eq!(names(&config), ["shop/a a-standby"]);
    let policy = config.policy_of(&config.pairs[0]).unwrap();
    assert_eq!((policy.name.as_str(), policy.gates.len()), ("default", 0));
    // But for one: unless somebody says so, risk is the proxies' alone to answer.
    let led_by_people = lifecycle::Policy {
        automatic: false,
        ..lifecycle::Policy::default()
    };
    assert_eq!(*policy.lifecycle, led_by_people);
    assert_eq!(*policy.judge, JudgePolicy::default());
}

#[test]
fn every_controller_file_in_configs_is_sound_and_says_what_it_says() {
    let load = |name: &str| {
        config::load(&repository().join("configs").join(name)).unwrap_or_else(|error| panic!("{error}"))
    };
    let small = load("controller.yaml");
    assert_eq!(names(&small), ["shop/a a-standby", "shop/b b-standby"]);
    assert_eq!(small.policies[0].gates[0].before, Point::Promote);
    assert_eq!(small.notifications[0].on.len(), 5);
    let large = load("controller-etcd.yaml");
    let PlannedStore::Etcd(etcd) = &large.store else {
        panic!("{:?}", large.store)
    };
    assert_eq!((etcd.endpoints.len(), etcd.lease), (3, Duration::from_secs(5)));
    assert_eq!(names(&large), ["shop/a -", "shop/b -", "payments/p p-standby"]);
    assert_eq!(large.policy_of(&large.pairs[2]).unwrap().name.as_str(), "careful");
    assert_eq!(large.groups[0].pairs.len(), 2);
    assert!(large.notifications[0].on.contains(&Occasion::Failover));
    assert_eq!(
        large.api.links.as_ref().unwrap().life,
        Duration::from_secs(12 * 3600)
    );
}

/// The blocks of YAML in a document that are whole files.
fn whole_examples(text: &str) -> Vec<&str> {
    let blocks = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.starts_with("apiVersion:")).collect()
}

#[test]
fn every_whole_example_with_a_controller_is_sound() {
    let mut checked = 0;
    for (folder, ending) in [("configs", "yaml"), ("docs", "md")] {
        for file in std::fs::read_dir(repository().join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|found| found != ending) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let examples = if ending == "md" {
                whole_examples(&text)
            } else {
                vec![text.as_str()]
            };
            for example in examples
                .into_iter()
                .filter(|example| example.contains("\ncontroller:"))
            {
                assert!(parse(example).is_ok(), "{}:\n{}", path.display(), wrong(example));
                checked += 1;
            }
        }
    }
    assert!(checked >= 3, "{checked} examples");
}

#[test]
fn every_mistake_is_told_at_once_with_its_place_and_a_hint() {
    let text = r#"apiVersion: foreshade/v1
workers: 4
controler: {}
controller:
  store: { etcd: { endpoints: [10.0.0.1:2379] } }
  link: { address: 0.0.0.0:9903 }
  api: { address: 0.0.0.0:9902, mode: 0600 }
  policies:
    - name: default
      steps: [5%, 5%, 50%]
      times: { stepMin: 1h, stepMax: 10 }
      verdict:
        alpha: 50%
        failures: { weight: 1, tolerance: 2, margin: 1.5 }
      risk: { shiftAt: 0.9 }
      gates:
        - { name: release, before: lunch, webhook: "ftp://x" }
      blocked:
        - { days: [friday], from: "25:00", dates: ["2026-02-30"] }
    - name: default
  pairs:
    - { cluster: shopp, primary: a }
    - { cluster: shop, primary: aa, policy: defualt }
    - { cluster: shop, primary: a, shadow: a }
  groups:
    - { name: g, pairs: [shop/a] }
  notifications:
    - { name: chat, webhook: "https://u:p@hooks.example", "on": [promotoin] }
clusters:
  - name: shop
    endpoints: [{ name: a, address: x, shadow: s, whatever: the proxy knows }]
    shadows: [{ name: s }]
"#;
    insta::assert_snapshot!(wrong(text));
}

#[test]
fn the_proxys_part_is_the_proxys_to_check_and_what_nobody_knows_is_refused() {
    let text = controller("").replace(
        "clusters:",
        "admin: { address: nonsense }\nlisteners: 7\nclusters:",
    );
    assert!(parse(&text).is_ok(), "{}", wrong(&text));
    let unknown = wrong(&controller("").replace("clusters:", "listener: 7\nclusters:"));
    assert!(
        unknown.contains("unknown key \"listener\"") && unknown.contains("did you mean \"listeners\"?"),
        "{unknown}"
    );
    let missing = wrong("apiVersion: foreshade/v1\nclusters: []\n");
    assert!(missing.contains("controller is missing"), "{missing}");
}

// Concept: endpoint-shadow-choice
#[test]
fn what_a_shadow_is_chosen_from_is_what_the_clusters_and_placement_say_of_standbys() {
    let text = controller(
        "pairs: [{ cluster: shop, primary: b }]\nplacement:\n  distanceMin: 800km\n  sameZone: false\n  costMax: 3\n  \
         latencyMax: 80ms\n  margin: 15%\n  exclude: [spare]\n  users: [{ site: 51.51 -0.13 }]\n  endpoints:\n    \
         - { cluster: shop, name: b, zone: eu-west-1a, site: 53.35 -6.26 }\n    \
         - { cluster: shop, name: far, zone: eu-north-1a, site: 59.33 18.07, cost: 2.5, latency: 30ms }\n",
    )
    .replace(
        "    shadows:\n",
        "    shadows:\n      - { name: far, address: 127.0.0.1:9102, region: eu-north, capacity: 500rps }\n      \
         - { name: spare, address: 127.0.0.1:9103 }\n",
    );
    let config = parse(&text).unwrap();
    let ground = config
        .placement
        .ground(&config.pairs[0].id, |id| *id == config.pairs[0].id);
    let zone = |place: &foreshade_engine::placement::Place| place.zone.as_ref().map(ToString::to_string);
    assert_eq!(zone(&ground.primary).as_deref(), Some("eu-west-1a"));
    let candidates: Vec<_> = ground
        .candidates
        .iter()
        .map(|known| known.name.as_str())
        .collect();
    // Not those that serve.
    assert_eq!(candidates, ["far", "spare", "a-standby"]);
    let far = &ground.candidates[0];
    assert_eq!(far.place.region.as_ref().unwrap().as_str(), "eu-north");
    assert_eq!(
        (far.spare_rps, far.cost, far.latency),
        (Some(500.0), Some(2.5), Some(Duration::from_millis(30)))
    );
    let distance = ground.primary.site.unwrap().distance_km(far.place.site.unwrap());
    assert!((1600.0..1650.0).contains(&distance), "{distance}");
    let policy = &*ground.policy;
    assert_eq!(
        (
            policy.distance_min_km,
            policy.distance_wanted_km,
            policy.zone,
            policy.region
        ),
        (800.0, 800.0, Diversity::Required, Diversity::Preferred)
    );
    assert_eq!(
        (
            policy.cost_max,
            policy.latency_max,
            policy.users.len(),
            policy.margin
        ),
        (Some(3.0), Some(Duration::from_millis(80)), 1, 0.15)
    );
    assert_eq!(policy.excluded.len(), 1);
}

#[test]
fn what_placement_says_of_nobody_and_a_standby_that_nobody_can_get_are_mistakes() {
    let placed = |endpoint: &str| {
        wrong(&controller(&format!(
            "pairs: [{{ cluster: shop, primary: b }}]\nplacement: {{ endpoints: [{endpoint}] }}"
        )))
    };
    let said = placed("{ cluster: shp, name: a }");
    assert!(
        said.contains("x.yaml:5:39: unknown cluster \"shp\"") && said.contains("did you mean \"shop\""),
        "{said}"
    );
    let said = placed("{ cluster: shop, name: a-stanby }");
    assert!(
        said.contains("x.yaml:5:51: the cluster shop has no endpoint \"a-stanby\"")
            && said.contains("did you mean \"a-standby\""),
        "{said}"
    );
    let said = placed("{ cluster: shop, name: a-standby, site: 91 7 }");
    assert!(
        said.contains("a latitude lies between -90 and 90 degrees"),
        "{said}"
    );
    for site in ["7", "1 2 3", "north east"] {
        let said = placed(&format!("{{ cluster: shop, name: a-standby, site: {site} }}"));
        assert!(
            said.contains("x.yaml:5:68") && said.contains("expected: degrees north and east"),
            "{said}"
        );
    }
    let idle = controller("").replace(
        "    shadows:\n",
        "    shadows:\n      - { name: spare, address: 127.0.0.1:9103 }\n",
    );
    let said = wrong(&idle);
    assert!(
        said.contains("x.yaml:10:17: no endpoint has the shadow \"spare\""),
        "{said}"
    );
    let given = idle.replace(
        "clusters:\n",
        "  pairs: [{ cluster: shop, primary: a }, { cluster: shop, primary: b }]\nclusters:\n",
    );
    assert!(parse(&given).is_ok(), "{}", wrong(&given));
}

#[test]
fn without_clusters_placement_knows_the_candidates_and_no_primary_is_one() {
    let text = "apiVersion: foreshade/v1\ncontroller:\n  \
        pairs: [{ cluster: far, primary: a }, { cluster: far, primary: b }]\n  \
        placement:\n    endpoints: [{ cluster: far, name: b }, { cluster: far, name: s }, { cluster: near, name: t }]\n";
    let config = parse(text).unwrap();
    let spec = foreshade_controller::spec::Spec::of(&config);
    let ground = spec.pairs[0].ground.as_ref().unwrap();
    let candidates: Vec<_> = ground
        .candidates
        .iter()
        .map(|known| known.name.as_str())
        .collect();
    assert_eq!(candidates, ["s"]);
}

#[test]
fn pairs_without_clusters_are_taken_at_their_word() {
    let text = "apiVersion: foreshade/v1\ncontroller:\n  pairs: [{ cluster: far, primary: away }]\n";
    assert_eq!(names(&parse(text).unwrap()), ["far/away -"]);
    assert_eq!(
        names(&parse("apiVersion: foreshade/v1\ncontroller: {}\n").unwrap()),
        [""; 0]
    );
}

#[test]
fn a_pair_is_kept_once_and_is_in_one_group() {
    let twice = wrong(&controller(
        "pairs:\n  - { cluster: shop, primary: a }\n  - { cluster: shop, primary: a }",
    ));
    assert!(
        twice.contains("the pair shop/a stands here twice") && twice.contains("line 5 has it already"),
        "{twice}"
    );
    let groups =
        "groups:\n  - { name: x, pairs: [shop/a, shop/b] }\n  - { name: y, pairs: [shop/b, shop/c] }";
    let pairs = "pairs: [{ cluster: shop, primary: a }, { cluster: shop, primary: b }]";
    let grouped = wrong(&controller(&format!("{pairs}\n{groups}")));
    assert!(
        grouped.contains("the pair shop/b is in a group already"),
        "{grouped}"
    );
    assert!(grouped.contains("unknown pair \"shop/c\""), "{grouped}");
}

#[test]
fn a_group_is_no_larger_than_what_can_be_written_at_once() {
    let sized = |pairs: usize| {
        let entry = |pair: usize| format!("{{ cluster: shop, primary: p{pair} }}");
        let (entries, names): (Vec<_>, Vec<_>) = (0..pairs)
            .map(|pair| (entry(pair), format!("shop/p{pair}")))
            .unzip();
        let (entries, names) = (entries.join(", "), names.join(", "));
        format!(
            "apiVersion: foreshade/v1\ncontroller:\n  pairs: [{entries}]\n  groups: [{{ name: all, pairs: [{names}] }}]\n"
        )
    };
    parse(&sized(ENTRIES_MAX)).unwrap();
    let large = wrong(&sized(ENTRIES_MAX + 1));
    assert!(
        large.contains("the group has 26 pairs") && large.contains("at most 25"),
        "{large}"
    );
}

#[test]
fn who_can_be_reached_from_elsewhere_asks_who_is_there() {
    for (lines, sound) in [
        ("link: { address: 0.0.0.0:9903, tokenFile: /etc/t }", true),
        (
            "link: { address: 0.0.0.0:9903, tls: { certificate: /c, key: /k, proxies: /p } }",
            true,
        ),
        (
            "link: { address: 0.0.0.0:9903, tls: { certificate: /c, key: /k } }",
            false,
        ),
        ("link: { address: 0.0.0.0:9903 }", false),
        ("api: { address: 0.0.0.0:9902 }", false),
        ("api: { address: 0.0.0.0:9902, tokenFile: /etc/t }", true),
        ("api: { address: unix:/run/foreshade/api.sock, mode: 0660 }", true),
        ("api: { address: 127.0.0.1:9903 }", false),
    ] {
        assert_eq!(parse(&controller(lines)).is_ok(), sound, "{lines}");
    }
}

#[test]
fn each_limit_that_needs_two_values_is_held() {
    let policy = |keys: &str| wrong(&controller(&format!("policies: [{{ name: x, {keys} }}]")));
    for (keys, said) in [
        ("times: { stepMin: 1h }", "stepMin: 1h is more than stepMax, 600s"),
        ("times: { bake: 2h }", "bake: 2h is more than bakeMax, 1h"),
        (
            "flaps: { cooldown: 10h }",
            "cooldown: 10h is more than cooldownMax, 6h",
        ),
        (
            "sync: { lagPromote: 1m }",
            "lagPromote: 60s is more than lagWarm, 10s",
        ),
        (
            "risk: { prepareAt: 0.5 }",
            "prepareAt: 0.5 is more than shiftAt, 0.35",
        ),
        (
            "risk: { severeAt: 0.3 }",
            "shiftAt: 0.35 is more than severeAt, 0.3",
        ),
        ("steps: [5%, 50%]", "the last one is 50%"),
        ("verdict: { beta: 30% }", "beta: 30% is no guarantee"),
    ] {
        let wrong = policy(keys);
        assert!(
            wrong.contains(said) && wrong.ends_with("1 mistake"),
            "{keys}: {wrong}"
        );
    }
    let silent = "{ weight: 0, tolerance: 1, margin: 2 }";
    let nobody = format!(
        "verdict: {{ failures: {silent}, p50: {silent}, p90: {silent}, p99: {silent}, p999: {silent} }}"
    );
    assert!(policy(&nobody).contains("nothing could ever be rolled back"));
}

/// Every key of the schema with its meaning and default, as a row of the document.
fn rows(schema: &Json, path: &str, found: &mut Vec<String>) {
    for variant in schema["anyOf"].as_array().into_iter().flatten() {
        rows(variant, path, found);
    }
    if schema["items"].is_object() {
        rows(&schema["items"], &format!("{path}[]"), found);
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}").trim_start_matches('.').to_owned();
        let default = match &property["default"] {
            _ if required.contains(&key.as_str().into()) => "required".to_owned(),
            Json::Null => "–".to_owned(),
            Json::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let text = |name: &str| property[name].as_str().unwrap_or_default().to_owned();
        assert!(
            !text("title").is_empty() && !text("description").is_empty(),
            "{path}"
        );
        found.push(format!(
            "| `{path}` | {} | {default} | {} |",
            text("title"),
            text("description")
        ));
        rows(property, &path, found);
    }
}

#[test]
fn the_document_explains_every_key_of_the_controller_and_no_other() {
    let mut expected = Vec::new();
    rows(
        &config::schema()["properties"]["controller"],
        "controller",
        &mut expected,
    );
    assert!(expected.len() > 60, "{}", expected.len());
    let document = std::fs::read_to_string(repository().join("docs/controller.md")).unwrap();
    let written: Vec<_> = document
        .lines()
        .filter(|line| line.starts_with("| `controller."))
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|row| !written.contains(&row.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/controller.md lacks:\n{}",
        missing.iter().map(|row| format!("{row}\n")).collect::<String>()
    );
    let stale: Vec<_> = written
        .iter()
        .filter(|line| !expected.iter().any(|row| row == *line))
        .collect();
    assert!(stale.is_empty(), "docs/controller.md has too much:\n{stale:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic_or_pass_without_a_reason(
        at in 0usize..4000, length in 0usize..40, inserted in "[-:{}\\[\\],&*!%a-z0-9\"' \n]{0,12}",
    ) {
        let mut text: Vec<char> = include_str!("../../configs/controller-etcd.yaml").chars().collect();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, inserted.chars());
        if let Err(mistakes) = parse(&text.into_iter().collect::<String>()) {
            prop_assert!(mistakes.count() > 0);
        }
    }
}
