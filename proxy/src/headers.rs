//! Which headers of a message go no further than this proxy.
//!
//! This is done for every message, and most have next to none of these headers: so a message's few names are looked through,
//! and not each name that there could be looked up.

use http::HeaderMap;
use http::header::{self, HeaderName};

/// Whether a header concerns one connection only, whatever `Connection` says.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            // What an offer of `h2c` brings along.
            | "http2-settings"
    )
}

/// Whether a header says who asks, or for what: a job reads only what this proxy has written there. Many programs behind a
/// proxy take `_` in a name for `-`.
fn is_claim(name: &str) -> bool {
    let begins = |with: &str| {
        let alike = |(byte, wanted): (u8, u8)| byte == wanted || byte == b'_' && wanted == b'-';
        name.len() >= with.len() && name.bytes().zip(with.bytes()).all(alike)
    };
    let is = |wanted: &str| name.len() == wanted.len() && begins(wanted);
    begins("x-forwarded-") || is("forwarded") || is("x-real-ip")
}

/// Removes what concerns one connection only, also what `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, |_| false);
}

/// The same for a request on its way to a job, and what a client may not say to it.
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, |name| {
        // The body is asked for when the job's connection takes it, and hyper then says 100 to the client. The trailers do not
        // go on, so they are not announced.
        name == header::EXPECT || name == header::TRAILER || is_claim(name.as_str())
    });
}

fn strip(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let named = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !is_hop_by_hop(name))
        .filter_map(|name| name.parse().ok());
    let ends_here = headers.keys().filter(|name| is_hop_by_hop(name.as_str()) || also(name)).cloned();
    let names: Vec<HeaderName> = named.chain(ends_here).collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// Those of these headers that are left.
    fn left(strip: fn(&mut HeaderMap), names: &[&'static str], connection: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(*name, HeaderValue::from_static("1"));
            headers.append(*name, HeaderValue::from_static("2"));
        }
        for value in connection {
            headers.append(header::CONNECTION, HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn what_concerns_one_connection_goes_no_further_either_way() {
        let names = [
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "x-first",
            "x-second",
            "x-third",
        ];
        let connection = ["close, X-First", " x-second ,keep-alive,,"];
        assert_eq!(left(strip_hop_by_hop, &names, &connection), ["x-third"]);
        assert_eq!(left(strip_request, &names, &connection), ["x-third"]);
    }

    #[test]
    fn claims_are_taken_off_requests_alone_however_their_names_are_written() {
        let names = [
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_port",
            "x-real-ip",
            "x_real-ip",
            "expect",
            "trailer",
            "x-forwarded",
            "forwarded-by",
            "x-real-ips",
        ];
        assert_eq!(left(strip_request, &names, &[]), ["forwarded-by", "x-forwarded", "x-real-ips"]);
        assert_eq!(left(strip_hop_by_hop, &names, &[]).len(), names.len());
    }
}
