//! What a request asks for, and what of its headers goes on.
//!
//! A client's words about the connection it uses end here (RFC 9110, 7.6.1), and so do its words about who it is: what a
//! job reads in `Forwarded` and `X-Forwarded-*` was written by this proxy.

use crate::answer::Answer;
use crate::client::Client;
use crate::headers;
use http::header;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

/// Headers that a job gets in place of the client's, or beyond them: its host, and who asks.
const CARRIED: usize = 5;

/// Where a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Lower case, without port: what routes are found by.
    pub host: String,
    /// What the job gets as `Host`.
    pub authority: HeaderValue,
    /// The protocols that the client would like to speak instead.
    pub upgrade: Option<HeaderValue>,
    /// The body comes in chunks, whatever the method.
    pub chunked: bool,
    /// The client takes trailers.
    pub trailers: bool,
}

impl Asked {
    /// Reads a request's head, or says what is wrong with it.
    pub fn read<B>(request: &Request<B>) -> Result<Asked, Answer> {
        if request.method() == Method::CONNECT {
            return Err(Answer::bad_request("CONNECT is not carried: this is the way in to services, not out"));
        }
        if request.uri().scheme().is_none() && request.uri().authority().is_some() {
            return Err(Answer::bad_request(
                "the request's target is a host without a scheme, which is for CONNECT alone",
            ));
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (host, more) = (hosts.next(), hosts.next());
        if more.is_some() {
            return Err(Answer::bad_request("the request has more than one Host header"));
        }
        // RFC 9113, 8.3.1: a server must not guess which of two different names is meant.
        if let (Version::HTTP_2, Some(authority), Some(host)) = (request.version(), request.uri().authority(), host)
            && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
        {
            return Err(Answer::bad_request("the request's Host is not its :authority"));
        }
        // RFC 9112, 3.2.2: the authority of an absolute target replaces Host.
        let authority = match (request.uri().authority(), host) {
            (Some(authority), _) => HeaderValue::from_str(authority.as_str()).ok(),
            (None, Some(host)) => Some(host.clone()),
            (None, None) => return Err(Answer::bad_request("the request has no Host header")),
        };
        let named = authority.as_ref().and_then(|value| value.to_str().ok()).and_then(host_of);
        let (Some(authority), Some(host)) = (authority, named) else {
            return Err(Answer::bad_request("the request's Host is not a host name"));
        };
        let chunked = match coding(request.headers()) {
            Coding::Plain => false,
            Coding::Chunked => true,
            Coding::Other => return Err(Answer::bad_request("the only Transfer-Encoding that is carried is chunked")),
        };
        if chunked && request.headers().contains_key(header::CONTENT_LENGTH) {
            return Err(Answer::bad_request("the request has both Content-Length and Transfer-Encoding"));
        }
        let upgrade = upgrade_of(request.headers()).filter(is_carried);
        Ok(Asked { host, authority, upgrade, chunked, trailers: takes_trailers(request.headers()) })
    }

    /// The headers that the job gets, made of those that the client sent.
    pub fn carry(&self, headers: &mut HeaderMap, client: &Client) {
        headers::strip_request(headers);
        headers.reserve(CARRIED);
        join_cookies(headers);
        headers.insert(header::HOST, self.authority.clone());
        if let Some(protocols) = &self.upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocols.clone());
        }
        if self.chunked {
            // Said explicitly, because hyper sends no body with GET and HEAD otherwise.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        client.introduce(headers, &self.authority);
    }
}

/// Of the headers that a job of HTTP/1.1 gets, those that one of HTTP/2 gets (RFC 9113, 8.2.2); its host goes elsewhere.
pub fn for_http2(headers: &mut HeaderMap, trailers: bool) {
    for name in [header::HOST, header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// A client of HTTP/2 may send a header for each cookie; a job gets one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, whole);
    }
}

/// The target of a request to a job: path and query only.
pub fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().filter(|path| !path.as_str().is_empty()).cloned();
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// Whether a message asks or agrees to change the protocol, and to what.
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")));
    asked.then(|| headers.get(header::UPGRADE).cloned()).flatten()
}

/// Whether a protocol that a client offers is one that the proxy carries. Another HTTP is not: what came through it would
/// reach the job without this proxy's routes, limits and headers (`h2c` smuggling). Nor is TLS within the connection. An
/// offer that is not taken is ignored (RFC 9110, 7.8), and the request is answered as it is.
fn is_carried(offered: &HeaderValue) -> bool {
    let Ok(offered) = offered.to_str() else { return false };
    offered.split(',').all(|protocol| {
        let name = protocol.split('/').next().unwrap_or_default().trim();
        !name.is_empty() && ["h2c", "h2", "h3", "http", "tls"].iter().all(|other| !name.eq_ignore_ascii_case(other))
    })
}

/// Whether a job's answer takes a protocol that was offered to it.
pub fn takes(agreed: &HeaderValue, offered: &HeaderValue) -> bool {
    let (Ok(agreed), Ok(offered)) = (agreed.to_str(), offered.to_str()) else { return false };
    offered.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case(agreed.trim()))
}

/// Whether the next request on this connection may not be trusted: RFC 9112, 6.1 wants the connection closed after a
/// request with both `Transfer-Encoding` and `Content-Length`. `smuggling` does not see one that was sent ahead, so every
/// chunked request counts. Those of HTTP/1.0 count because few of its clients keep connections.
pub fn ends_connection(asked: &Asked, version: Version) -> bool {
    asked.chunked || version == Version::HTTP_10
}

enum Coding {
    Plain,
    Chunked,
    Other,
}

fn coding(headers: &HeaderMap) -> Coding {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Coding::Plain,
        (Some(one), None) if one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
        _ => Coding::Other,
    }
}

/// The host of an authority in lower case, without port and without the dot that may end it.
fn host_of(authority: &str) -> Option<String> {
    if is_plain_name(authority) { Some(authority.to_owned()) } else { parsed_host_of(authority) }
}

/// Whether an authority is its own host already, as nearly all are: then it need not be parsed.
fn is_plain_name(authority: &str) -> bool {
    !authority.is_empty()
        && !authority.ends_with('.')
        && authority.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

fn parsed_host_of(authority: &str) -> Option<String> {
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let host = parsed.host();
    if host.is_empty() || authority.contains('@') {
        return None;
    }
    // The whole text goes on to the job as `Host`: behind the name there is a number or nothing.
    let port = authority.strip_prefix(host)?;
    if !port.is_empty() && port.strip_prefix(':').is_none_or(|port| !is_port(port)) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    Some(host.to_ascii_lowercase())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().uri(uri);
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn client() -> Client {
        Client::new(SocketAddr::from(([192, 0, 2, 7], 4)), "http")
    }

    fn host(uri: &str, headers: &[(&str, &str)]) -> Option<String> {
        Asked::read(&request(uri, headers)).ok().map(|asked| asked.host)
    }

    #[test]
    fn the_host_is_found_whatever_way_it_is_written() {
        assert_eq!(host("/", &[("host", "Shop.Example.com")]).unwrap(), "shop.example.com");
        assert_eq!(host("/", &[("host", "shop.example.com:8080")]).unwrap(), "shop.example.com");
        assert_eq!(host("/", &[("host", "shop.example.com.")]).unwrap(), "shop.example.com");
        assert_eq!(host("/", &[("host", "[::1]:80")]).unwrap(), "[::1]");
        assert_eq!(host("http://a.example/x", &[("host", "b.example")]).unwrap(), "a.example");
    }

    proptest! {
        #[test]
        fn a_plain_name_is_the_host_that_a_parser_finds(authority in "[a-zA-Z0-9.:_@-]{0,12}") {
            prop_assert_eq!(host_of(&authority), parsed_host_of(&authority));
        }
    }

    #[test]
    fn a_request_without_one_clear_host_is_refused() {
        for headers in [
            &[][..],
            &[("host", "a.example"), ("host", "b.example")],
            &[("host", "a.example"), ("host", "a.example")],
            &[("host", "")],
            &[("host", "user@a.example")],
            &[("host", "a.example/x")],
            &[("host", "a b")],
            &[("host", "a.example:x")],
            &[("host", "a.example:+80")],
            &[("host", "a.example:65536")],
            &[("host", "a.example:")],
        ] {
            assert_eq!(host("/", headers), None, "{headers:?}");
        }
    }

    #[test]
    fn only_plain_chunks_are_carried_and_never_beside_a_length() {
        for headers in [
            &[("host", "h"), ("transfer-encoding", "gzip, chunked")][..],
            &[("host", "h"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("host", "h"), ("transfer-encoding", "chunked"), ("content-length", "3")],
        ] {
            assert_eq!(Asked::read(&request("/", headers)).unwrap_err().status, 400, "{headers:?}");
        }
        assert!(Asked::read(&request("/", &[("host", "h"), ("transfer-encoding", "Chunked")])).unwrap().chunked);
    }

    #[test]
    fn a_job_reads_nothing_that_a_client_says_about_itself_or_its_connection() {
        let request = request(
            "/",
            &[
                ("host", "a.example:81"),
                ("connection", "close, X-Private"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-port", "1"),
                ("forwarded", "for=1.1.1.1"),
                ("x-real-ip", "1.1.1.1"),
                ("accept", "*/*"),
            ],
        );
        let asked = Asked::read(&request).unwrap();
        let mut headers = request.headers().clone();
        asked.carry(&mut headers, &client());
        let mut left: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "accept: */*",
                "forwarded: for=192.0.2.7;host=\"a.example:81\";proto=http",
                "host: a.example:81",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: a.example:81",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn no_other_http_is_carried_under_the_name_of_an_upgrade() {
        let upgrade = |protocols: &str| {
            let headers = [("host", "h"), ("connection", "Upgrade, HTTP2-Settings"), ("upgrade", protocols)];
            Asked::read(&request("/", &headers)).unwrap().upgrade
        };
        for carried in ["websocket", "WebSocket", "spice", "a/1, b"] {
            assert_eq!(upgrade(carried).unwrap(), carried);
        }
        for ignored in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.0", " h2c ", "", ","] {
            assert_eq!(upgrade(ignored), None, "{ignored:?}");
        }
        let value = HeaderValue::from_static;
        assert!(takes(&value("WebSocket"), &value("spice, websocket")));
        assert!(!takes(&value("h2c"), &value("websocket")) && !takes(&value("websocket, h2c"), &value("websocket")));
    }

    #[test]
    fn a_host_with_anything_but_a_name_in_it_is_refused() {
        for host in
            ["a\tb", "a,b.example", "a\"b", "a<b>", "a\\b", "a;b", "${x}", "a%0d%0ab", "a b", "[::1", "a:b:c", "é"]
        {
            let Ok(value) = HeaderValue::from_str(host) else { continue };
            let mut asked = request("/", &[]);
            asked.headers_mut().insert("host", value);
            match Asked::read(&asked) {
                Err(refused) => assert_eq!(refused.status, 400),
                // What is left stays within the quotes of `Forwarded` and within a line.
                Ok(read) => assert!(!read.host.contains(['"', '\\', ' ']), "{host:?} is {:?}", read.host),
            }
        }
    }

    #[test]
    fn a_connection_header_cannot_take_the_host_away() {
        let request = request("/", &[("host", "a.example"), ("connection", "host")]);
        let mut headers = request.headers().clone();
        Asked::read(&request).unwrap().carry(&mut headers, &client());
        assert_eq!(headers["host"], "a.example");
    }
}
