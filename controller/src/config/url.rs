//! Where a webhook goes, or a server is: `http://host:port/path` or `https://...`.
//!
//! Checked here as it is used later, so that what cannot be called is a mistake in the file and not in the night. No
//! user and password in it: what stands in a URL stands in logs.

use foreshade_settings::{Json, Scalar, Shown, Wrong, is_host_name, patterned};
use http::Uri;
use http::uri::Scheme;

/// An absolute URL of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// The URL, with scheme and authority.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for Url {
    fn expected() -> String {
        "a URL, as https://hooks.example/foreshade".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.contains('#') {
            return Err(Wrong::because("has a fragment, which is never sent"));
        }
        let uri: Uri = text.parse().map_err(|_| Wrong::default())?;
        let known = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)];
        if !known.contains(&uri.scheme()) {
            let hint = (!text.contains("://")).then(|| format!("write http://{text}"));
            return Err(Wrong::because("has neither http:// nor https://").hint(hint));
        }
        let authority = uri
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        if authority.contains('@') {
            return Err(Wrong::because(
                "names a user, and what stands in a URL stands in logs",
            ));
        }
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if !is_host_name(host) && bare.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(Wrong::because("has a host with characters that no host has"));
        }
        if authority.rsplit_once(':').is_some_and(|(before, port)| {
            (!before.starts_with('[') || before.ends_with(']'))
                && !port.parse::<u16>().is_ok_and(|port| port > 0)
        }) {
            return Err(Wrong::because("has a port that is not from 1 to 65535"));
        }
        Ok(Self(uri))
    }

    fn schema() -> Json {
        patterned("^https?://[^/?#@\\s]+(/[^#\\s]*)?$")
    }
}

impl Shown for Url {
    fn shown(&self) -> Json {
        self.0.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_that_can_be_called() {
        for text in [
            "http://a",
            "http://127.0.0.1:8080/x?y=1",
            "https://hooks.example/a/b",
            "http://[::1]:80/",
            "http://[::1]/",
        ] {
            assert!(Url::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "a",
            "a:80",
            "/x",
            "ftp://a",
            "http://",
            "http://a b",
            "http://u:p@a",
            "http://a/#x",
            "http://a:0/",
            "http://a:x/",
            "http://*/",
            "http://a:99999",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
