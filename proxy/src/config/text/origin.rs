//! Origins, as browsers write them and CORS compares them: scheme, host, and a port that is not the scheme's own.

use foreshade_settings::{Scalar, Wrong};
use serde_json::{Value as Json, json};

use super::host;
use crate::policy::cors::OriginMatch;

/// An origin, all origins below a domain, or every origin.
#[derive(Clone, Debug)]
pub(in crate::config) enum OriginPattern {
    Any,
    Like(OriginMatch),
}

impl Scalar for OriginPattern {
    fn expected() -> String {
        "an origin, as https://shop.example or https://*.shop.example, or '*'".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Err(Wrong::because("is no site: every sandboxed frame has it")),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Wrong::because("has no scheme").hint(format!("write https://{text}")));
        };
        let own_port = match scheme {
            "http" => "80",
            "https" => "443",
            _ => return Err(Wrong::because("has a scheme that no page of a browser has")),
        };
        if let Some((origin, _)) = rest.split_once('/') {
            let hint = format!("write {scheme}://{origin}");
            return Err(Wrong::because("has a path, and origins have none").hint(hint));
        }
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, rest),
        };
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) if !name.ends_with(':') && port.parse::<u16>().is_ok() => (name, Some(port)),
            _ => (rest, None),
        };
        if port == Some(own_port) {
            let hint = format!("write {scheme}://{}{name}", if below { "*." } else { "" });
            return Err(Wrong::because("has its scheme's own port, which browsers leave out").hint(hint));
        }
        let name = host(name)?;
        Ok(Self::Like(OriginMatch {
            scheme: format!("{scheme}://"),
            below,
            host: port.map_or(name.clone(), |port| format!("{name}:{port}")),
        }))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^\\*$|^https?://[^/\\s]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_a_browser_writes_it() {
        let read = |text: &str| match OriginPattern::parse(text) {
            Ok(OriginPattern::Like(one)) => (one.scheme, one.below, one.host),
            other => panic!("{text}: {other:?}"),
        };
        let origin = |scheme: &str, below, host: &str| (scheme.to_owned(), below, host.to_owned());
        assert_eq!(
            read("https://Shop.example"),
            origin("https://", false, "shop.example")
        );
        assert_eq!(
            read("http://localhost:3000"),
            origin("http://", false, "localhost:3000")
        );
        assert_eq!(
            read("https://*.shop.example"),
            origin("https://", true, "shop.example")
        );
        assert!(matches!(OriginPattern::parse("*"), Ok(OriginPattern::Any)));
        for text in [
            "",
            "null",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example:443",
            "http://shop.example:80",
            "ftp://shop.example",
            "https://a.*.example",
            "https://*",
            "https://user@shop.example",
        ] {
            assert!(OriginPattern::parse(text).is_err(), "{text}");
        }
    }
}
