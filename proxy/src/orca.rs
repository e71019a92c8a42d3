//! What an endpoint says of itself: the load report in the headers of its answers.
//!
//! ORCA is what gRPC and Envoy agree on. A report comes in one of two headers and three spellings:
//! `endpoint-load-metrics: TEXT cpu_utilization=0.3,...`, `JSON {...}`, `BIN <base64>`, or the base64 alone in
//! `endpoint-load-metrics-bin`; the base64 holds a protobuf message `xds.data.orca.v3.OrcaLoadReport`. Five of its
//! fields are read, all of them doubles, so the wire format is walked by hand: a code generator for five numbers would
//! be the larger risk. Sources: `xds/data/orca/v3/orca_load_report.proto`; Envoy, "Open Request Cost Aggregation".
//!
//! A report is believed as a whole or not at all: an endpoint that reports a negative load is confused, and its other
//! numbers are no better. A field that is absent is unknown, not zero.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use foreshade_engine::observation::ResourceReport;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;

const TEXT_HEADER: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const BINARY_HEADER: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// The headers that carry reports. They are meant for the proxy and go no further.
pub static HEADERS: [HeaderName; 2] = [TEXT_HEADER, BINARY_HEADER];

/// Longest report in bytes. The five fields fill fewer than 200; the rest is room for named metrics, which are skipped.
const REPORT_BYTES_MAX: usize = 4096;

/// gRPC leaves the padding out, Envoy's examples have it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The report in the headers of an answer. `None` where there is none, or none that can be believed.
// Concept: endpoint-metrics
pub fn parse(headers: &HeaderMap) -> Option<ResourceReport> {
    // Nearly every answer has none. Comparing a few lengths costs less than hashing two names.
    if !headers.keys().any(|name| HEADERS.contains(name)) {
        return None;
    }
    let fields = match headers.get(TEXT_HEADER) {
        Some(value) => spelled(bounded(value.as_bytes())?)?,
        None => binary(bounded(headers.get(BINARY_HEADER)?.as_bytes())?)?,
    };
    fields.report()
}

/// The fields that are read, by the names that they have in all three spellings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: Option<f64>,
    #[serde(alias = "memUtilization")]
    mem_utilization: Option<f64>,
    #[serde(alias = "applicationUtilization")]
    application_utilization: Option<f64>,
    #[serde(alias = "rpsFractional")]
    rps_fractional: Option<f64>,
    eps: Option<f64>,
}

impl Fields {
    /// `None` where a number is impossible, or nothing was said.
    fn report(self) -> Option<ResourceReport> {
        let said = [
            self.cpu_utilization,
            self.mem_utilization,
            self.application_utilization,
            self.rps_fractional,
            self.eps,
        ];
        let possible = said.iter().flatten().all(|v| v.is_finite() && *v >= 0.0);
        if !possible || said.iter().all(Option::is_none) {
            return None;
        }
        Some(ResourceReport {
            // What the application says of itself counts its queues and locks; the processor's load does not.
            utilization: self
                .application_utilization
                .filter(|v| *v > 0.0)
                .or(self.cpu_utilization),
            memory: self.mem_utilization,
            rps: self.rps_fractional,
            eps: self.eps,
        })
    }
}

fn bounded(value: &[u8]) -> Option<&[u8]> {
    (value.len() <= REPORT_BYTES_MAX).then(|| value.trim_ascii())
}

fn spelled(value: &[u8]) -> Option<Fields> {
    let gap = value.iter().position(|b| *b == b' ')?;
    let (spelling, rest) = value.split_at(gap);
    match spelling {
        b"TEXT" => text(rest),
        b"JSON" => serde_json::from_slice(rest).ok(),
        b"BIN" => binary(rest.trim_ascii()),
        _ => None,
    }
}

/// `name=value` pairs between commas. Names that are not read are skipped, whatever their value.
fn text(value: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    for pair in std::str::from_utf8(value).ok()?.split(',') {
        let (name, value) = pair.split_once('=')?;
        let field = match name.trim() {
            "cpu_utilization" => &mut fields.cpu_utilization,
            "mem_utilization" => &mut fields.mem_utilization,
            "application_utilization" => &mut fields.application_utilization,
            "rps_fractional" => &mut fields.rps_fractional,
            "eps" => &mut fields.eps,
            _ => continue,
        };
        *field = Some(value.trim().parse().ok()?);
    }
    Some(fields)
}

fn binary(value: &[u8]) -> Option<Fields> {
    message(&BASE64.decode(value).ok()?)
}

/// Walks a protobuf message. Each step takes at least one byte off, so it ends. Source: protobuf.dev, "Encoding".
fn message(mut bytes: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    while !bytes.is_empty() {
        let key;
        (key, bytes) = varint(bytes)?;
        let (number, wire_type) = (key >> 3, key & 7);
        bytes = match wire_type {
            0 => varint(bytes)?.1,
            1 => {
                let (eight, rest) = bytes.split_first_chunk::<8>()?;
                let value = Some(f64::from_le_bytes(*eight));
                match number {
                    1 => fields.cpu_utilization = value,
                    2 => fields.mem_utilization = value,
                    6 => fields.rps_fractional = value,
                    7 => fields.eps = value,
                    9 => fields.application_utilization = value,
                    _ => {}
                }
                rest
            }
            2 => {
                let (length, rest) = varint(bytes)?;
                rest.get(usize::try_from(length).ok()?..)?
            }
            5 => bytes.get(4..)?,
            // Groups are gone from proto3; anything else never was.
            _ => return None,
        };
    }
    Some(fields)
}

/// A number in groups of seven bits, the lowest first, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn said(name: &'static str, value: &[u8]) -> Option<ResourceReport> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).ok()?);
        parse(&headers)
    }

    fn double(number: u8, value: f64) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 1];
        bytes.extend(value.to_le_bytes());
        bytes
    }

    /// All five fields, and between them what is skipped: the old `rps`, a map entry, a fixed 32-bit field.
    fn everything() -> Vec<u8> {
        let skipped = vec![
            3 << 3,
            0xac,
            0x02,
            4 << 3 | 2,
            3,
            0x0a,
            1,
            b'x',
            15 << 3 | 5,
            1,
            2,
            3,
            4,
        ];
        [
            double(1, 0.3),
            skipped,
            double(2, 0.8),
            double(6, 12.5),
            double(7, 0.5),
            double(9, 0.9),
        ]
        .concat()
    }

    const ALL: ResourceReport = ResourceReport {
        utilization: Some(0.9),
        memory: Some(0.8),
        rps: Some(12.5),
        eps: Some(0.5),
    };

    // Concept: endpoint-metrics
    #[test]
    fn every_spelling_says_the_same() {
        let text = b"TEXT cpu_utilization=0.3, mem_utilization=0.8,rps_fractional=12.5,eps=0.5,\
            application_utilization=0.9,named_metrics.queue=many";
        assert_eq!(said("endpoint-load-metrics", text), Some(ALL));
        let json = br#"JSON {"cpu_utilization":0.3,"memUtilization":0.8,"rps_fractional":12.5,"eps":0.5,
            "applicationUtilization":0.9,"named_metrics":{"queue":3}}"#;
        let json: Vec<u8> = json.iter().copied().filter(|b| *b != b'\n').collect();
        assert_eq!(said("endpoint-load-metrics", &json), Some(ALL));
        let padded = BASE64.encode(everything());
        assert_eq!(
            said("endpoint-load-metrics", format!("BIN {padded}").as_bytes()),
            Some(ALL)
        );
        let bare = padded.trim_end_matches('=').as_bytes();
        assert_eq!(said("endpoint-load-metrics-bin", bare), Some(ALL));
    }

    #[test]
    fn without_its_own_word_the_processor_speaks_for_the_application() {
        let report = said(
            "endpoint-load-metrics",
            b"TEXT cpu_utilization=0.3,application_utilization=0",
        )
        .unwrap();
        assert_eq!(report.utilization, Some(0.3));
        assert_eq!((report.memory, report.rps, report.eps), (None, None, None));
    }

    #[test]
    fn impossible_numbers_spoil_the_report() {
        for bad in ["NaN", "-0.1", "inf", "1e999", "x", ""] {
            let text = format!("TEXT mem_utilization=0.5,cpu_utilization={bad}");
            assert_eq!(said("endpoint-load-metrics", text.as_bytes()), None, "{bad}");
        }
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            let bytes = BASE64.encode([double(2, 0.5), double(1, bad)].concat());
            assert_eq!(said("endpoint-load-metrics-bin", bytes.as_bytes()), None, "{bad}");
        }
        assert_eq!(
            said("endpoint-load-metrics", br#"JSON {"cpu_utilization":-1}"#),
            None
        );
    }

    #[test]
    fn what_is_no_report_is_none() {
        assert_eq!(parse(&HeaderMap::new()), None);
        for text in [
            "",
            "TEXT",
            "TEXT ",
            "TEXT named_metrics.x=1",
            "JSON {}",
            "BIN ",
            "cpu_utilization=0.3",
        ] {
            assert_eq!(said("endpoint-load-metrics", text.as_bytes()), None, "{text}");
        }
        let long = format!("TEXT cpu_utilization=0.3,{}", "x=1,".repeat(REPORT_BYTES_MAX / 4));
        assert_eq!(said("endpoint-load-metrics", long.as_bytes()), None);
    }

    #[test]
    fn a_cut_message_is_refused() {
        let whole = everything();
        let ends = (1..whole.len())
            .filter(|end| message(&whole[..*end]).is_some())
            .count();
        // The ends of the fields before the last one, and nowhere else.
        assert_eq!(ends, 7);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_reported_is_possible(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            spelling in prop::sample::select(vec!["TEXT ", "JSON ", "BIN ", ""]),
        ) {
            let encoded = BASE64.encode(&bytes);
            let spelled = [spelling.as_bytes(), &bytes].concat();
            let reports = [
                said("endpoint-load-metrics", &spelled),
                said("endpoint-load-metrics-bin", &bytes),
                said("endpoint-load-metrics-bin", encoded.as_bytes()),
            ];
            for report in reports.into_iter().flatten() {
                let values = [report.utilization, report.memory, report.rps, report.eps];
                prop_assert!(values.iter().flatten().all(|v| v.is_finite() && *v >= 0.0));
            }
        }

        #[test]
        fn every_double_arrives_as_it_was_sent(cpu in 0.0..10.0f64, rps in 0.0..1e9f64) {
            let bytes = [double(6, rps), double(1, cpu)].concat();
            let report = said("endpoint-load-metrics-bin", BASE64.encode(bytes).as_bytes()).unwrap();
            prop_assert_eq!((report.utilization, report.rps), (Some(cpu), Some(rps)));
        }
    }
}
