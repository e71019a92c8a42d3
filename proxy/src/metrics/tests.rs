//! The page against its document and against the format: names, types, labels, escaping.

use std::collections::{BTreeMap, BTreeSet};

use super::endpoints::{BOUNDS, PHASES, STANDINGS};
use super::*;
use crate::admin::fixture;
use prost::Message as _;

fn page() -> String {
    String::from_utf8(page_in(Form::Text)).unwrap()
}

fn page_in(form: Form) -> Vec<u8> {
    let extra = Extra {
        ready: true,
        probes_dropped: 4,
        reload: Status::first(&fixture::topology()),
        names: names(),
        mirror: fixture::mirror(),
        process: Process::read(),
        connections_accepted: 9,
        connections_open: 3,
        handshakes: vec![("1.3", "false", 5)],
        handshakes_failed: vec![("gone", 2)],
        certificates: vec![("web".to_owned(), certificate())],
        secured: vec![tls::Secured {
            cluster: "shop".to_owned(),
            endpoint: "alpha".to_owned(),
            done: vec![("1.3", "true", 6)],
            took: std::time::Duration::from_millis(30),
            failed: vec![("expired", 7)],
            expires_s: Some(1_700_000_000),
        }],
        shown: vec![("shop".to_owned(), certificate())],
        access_log: access_log::Counts {
            written: 100,
            dropped_behind: 6,
            dropped_failed: 7,
        },
        traces: Exporting::default(),
        admin_refused: 8,
        upgrades: Upgrades::default(),
        ordered: vec![crate::acme::Row {
            name: "shop.example".to_owned(),
            issued: 1,
            failed: 2,
            last: Some(true),
            next_s: 1_790_000_000,
        }],
        link: Some(crate::link::view::View::sample()),
    };
    render(&fixture::view(), &extra, form)
}

fn certificate() -> Certificate {
    Certificate {
        file: "/etc/foreshade/shop.pem".into(),
        names: vec!["shop.example".to_owned()],
        expires_s: 1_800_000_000,
    }
}

/// One name with an answer.
fn names() -> Arc<Known> {
    let row = crate::names::NameRow {
        name: crate::config::DnsName::Service("_http._tcp.shop.example".to_owned()),
        addresses: vec!["10.0.0.1:80".parse().unwrap()],
        answered: Some(tokio::time::Instant::now()),
        ok: 3,
        failed: 1,
        error: None,
    };
    Arc::new(Known {
        rows: vec![row],
        ..Known::default()
    })
}

/// Name -> type and labels. Holds the page against the grammar of the format on the way.
fn families(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut lines = page.lines().peekable();
    while let Some(help) = lines.next() {
        let (name, help) = help.strip_prefix("# HELP ").expect(help).split_once(' ').unwrap();
        assert!(help.ends_with('.'), "{name}: {help}");
        let kind = lines
            .next()
            .unwrap()
            .strip_prefix(&format!("# TYPE {name} "))
            .unwrap()
            .to_owned();
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        let mut labels = BTreeSet::new();
        let mut series = BTreeSet::new();
        while let Some(sample) = lines.next_if(|l| !l.starts_with('#')) {
            let (id, value) = sample.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().expect(sample);
            assert!(value.is_finite() && value >= 0.0, "{sample}");
            assert!(series.insert(id), "twice: {id}");
            let (own, pairs) = id.split_once('{').unwrap_or((id, "}"));
            let suffix = own.strip_prefix(name).expect(sample);
            assert!(
                suffix.is_empty() || (kind == "histogram" && ["_bucket", "_sum", "_count"].contains(&suffix))
            );
            for pair in pairs
                .strip_suffix('}')
                .unwrap()
                .split(',')
                .filter(|p| !p.is_empty())
            {
                let (label, value) = pair.split_once('=').unwrap();
                assert!(value.starts_with('"') && value.ends_with('"'), "{sample}");
                labels.insert(label.to_owned());
            }
        }
        assert!(!series.is_empty(), "the fixture shows no {name}");
        labels.remove("le");
        assert!(
            families.insert(name.to_owned(), (kind, labels)).is_none(),
            "{name} twice"
        );
    }
    families
}

#[test]
fn the_document_and_the_page_name_the_same_metrics_types_and_labels() {
    let document = include_str!("../../../docs/metrics.md");
    let mut documented = BTreeMap::new();
    for row in document.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[2]
            .split(',')
            .map(|l| l.trim().trim_matches('`').to_owned())
            .filter(|l| !l.is_empty());
        let entry = (cells[1].to_owned(), labels.collect::<BTreeSet<_>>());
        assert!(!cells[3].is_empty(), "{row}");
        assert!(
            documented
                .insert(cells[0].trim_matches('`').to_owned(), entry)
                .is_none(),
            "{row} twice"
        );
    }
    assert_eq!(documented, families(&page()));
}

#[test]
fn numbers_are_those_of_the_view() {
    let page = page();
    for line in [
        "foreshade_unrouted_requests_total 5",
        "foreshade_answers_without_endpoint_total{reason=\"redirect\"} 2",
        "foreshade_policy_refused_total{reason=\"address_denied\"} 1",
        "foreshade_policy_spared_total{reason=\"rate_limited\"} 4",
        "foreshade_rate_limit_forgotten_keys_total 3",
        "foreshade_dropped_probes_total 4",
        "foreshade_scorer_lag_seconds 0.0015",
        "foreshade_connections_accepted_total 9",
        "foreshade_connections_open 3",
        "foreshade_tls_handshakes_total{version=\"1.3\",resumed=\"false\"} 5",
        "foreshade_tls_handshakes_failed_total{reason=\"gone\"} 2",
        "foreshade_tls_certificate_expiry_timestamp_seconds{listener=\"web\",file=\"/etc/foreshade/shop.pem\"} 1800000000",
        "foreshade_endpoint_tls_handshakes_total{cluster=\"shop\",endpoint=\"alpha\",version=\"1.3\",resumed=\"true\"} 6",
        "foreshade_endpoint_tls_handshakes_failed_total{cluster=\"shop\",endpoint=\"alpha\",reason=\"expired\"} 7",
        "foreshade_endpoint_tls_handshake_seconds_total{cluster=\"shop\",endpoint=\"alpha\"} 0.03",
        "foreshade_endpoint_tls_expiry_timestamp_seconds{cluster=\"shop\",endpoint=\"alpha\"} 1700000000",
        "foreshade_admin_refused_total 8",
        "foreshade_controller_connected 0",
        "foreshade_plan_generation 0",
        "foreshade_plan_refused_total{reason=\"stale_epoch\"} 0",
        "foreshade_uncounted_requests_total 4",
        "foreshade_forgotten_segments_total 6",
        "foreshade_access_log_lines_total 100",
        "foreshade_access_log_dropped_total{reason=\"behind\"} 6",
        "foreshade_access_log_dropped_total{reason=\"failed\"} 7",
        "foreshade_cluster_mode{cluster=\"shop\",mode=\"frozen\"} 1",
        "foreshade_cluster_mode{cluster=\"shop\",mode=\"normal\"} 0",
        "foreshade_answers_total{cluster=\"shop\",code_class=\"2xx\"} 2",
        "foreshade_answers_total{cluster=\"shop\",code_class=\"none\"} 1",
        "foreshade_carried_bytes_total{cluster=\"shop\",direction=\"to_client\"} 12",
        "foreshade_carried_datagrams_total{cluster=\"shop\",direction=\"to_endpoint\"} 0",
        "foreshade_failovers_total{cluster=\"shop\",reason=\"refused\"} 3",
        "foreshade_endpoint_risk_ratio{cluster=\"shop\",endpoint=\"alpha\"} 0.7",
        "foreshade_endpoint_hazard{cluster=\"shop\",endpoint=\"alpha\",group=\"performance\"} 1.2",
        "foreshade_endpoint_attempts_total{cluster=\"shop\",endpoint=\"alpha\",class=\"timeout\"} 2",
        "foreshade_endpoint_latency_p99_seconds{cluster=\"shop\",endpoint=\"alpha\"} 0.09",
        "foreshade_shift_share_ratio{cluster=\"shop\",endpoint=\"alpha\",shadow=\"standby\"} 0.25",
        "foreshade_shift_phase{cluster=\"shop\",endpoint=\"alpha\",phase=\"ramp\"} 1",
        "foreshade_endpoint_standing{cluster=\"shop\",endpoint=\"standby\",standing=\"unknown\"} 1",
        "foreshade_mirror_dropped_copies_total{cluster=\"shop\",reason=\"busy\"} 9",
        "foreshade_mirror_results_total{cluster=\"shop\",target=\"standby\",result=\"equal\"} 6",
        "foreshade_mirror_pairs_total{cluster=\"shop\",target=\"standby\",bad=\"target\"} 2",
        "foreshade_mirror_latency_p99_seconds{cluster=\"shop\",target=\"standby\",side=\"primary\"} 0.009",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is missing:\n{page}");
    }
    assert!(!page.contains("foreshade_endpoint_latency_p99_seconds{cluster=\"shop\",endpoint=\"standby\"}"));
}

#[test]
fn the_histogram_counts_up_to_each_bound() {
    let page = page();
    let at = |le: &str| {
        let id = format!("foreshade_answer_latency_seconds_bucket{{cluster=\"shop\",le=\"{le}\"}} ");
        page.lines()
            .find_map(|l| l.strip_prefix(&id))
            .expect(le)
            .parse::<u64>()
            .unwrap()
    };
    let counted = ["0.0025", "0.005", "0.05", "0.1", "30.0", "+Inf"].map(at);
    assert_eq!(counted, [0, 2, 2, 3, 3, 4]);
    let sum = page
        .lines()
        .find_map(|l| l.strip_prefix("foreshade_answer_latency_seconds_sum{cluster=\"shop\"} "));
    let sum: f64 = sum.unwrap().parse().unwrap();
    assert!((sum / 40.067 - 1.0).abs() < 0.04, "{sum}");
}

/// Each sample of a page of text, by its name and labels as they are written, without the buckets of histograms.
fn samples(page: &str) -> BTreeMap<String, String> {
    let lines = page
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    samples
        .map(|(id, value)| (id.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn all_forms_say_the_same() {
    // What changes from one look to the next is the process itself, and how old something is.
    let ages = ["_age_seconds", "_alone_seconds"];
    let own =
        |id: &String, _: &mut String| !id.starts_with("process_") && !ages.iter().any(|age| id.contains(age));
    let mut text = samples(&page());
    text.retain(own);
    let mut open = samples(&String::from_utf8(page_in(Form::OpenMetrics)).unwrap());
    open.retain(own);
    assert_eq!(text, open);

    let bytes = page_in(Form::Protobuf);
    let mut rest = &bytes[..];
    let mut binary = BTreeMap::new();
    while !rest.is_empty() {
        let family = exposition::MetricFamily::decode_length_delimited(&mut rest).unwrap();
        let name = family.name.unwrap();
        for metric in family.metric {
            let labels = metric.label.iter().map(|label| {
                format!(
                    "{}=\"{}\"",
                    label.name.as_ref().unwrap(),
                    label.value.as_ref().unwrap()
                )
            });
            let labels: Vec<_> = labels.collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let mut put = |suffix: &str, value: f64| {
                binary.insert(format!("{name}{suffix}{labels}"), value.to_string());
            };
            if let Some(histogram) = metric.histogram {
                put("_sum", histogram.sample_sum.unwrap());
                put("_count", histogram.sample_count.unwrap() as f64);
            } else {
                put("", metric.counter.or(metric.gauge).unwrap().value.unwrap());
            }
        }
    }
    binary.retain(own);
    assert_eq!(text, binary);
}

#[test]
fn labels_of_states_are_those_of_the_json() {
    fn check<T: serde::Serialize>(states: &[(T, &str)]) {
        let labels: BTreeSet<_> = states.iter().map(|(_, label)| *label).collect();
        assert_eq!(labels.len(), states.len());
        for (state, label) in states {
            assert_eq!(serde_json::to_value(state).unwrap(), *label);
        }
    }
    check(&MODES.map(|mode| (mode, mode.label())));
    check(&STANDINGS);
    check(&PHASES.map(|phase| (phase, phase.label())));
    check(&BOUNDS.map(|bound| (bound, bound.label())));
}
