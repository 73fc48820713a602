//! What a request says in its headers besides what it asks for: its idempotency key, and what it was decided on.

use super::body;
use super::problem::ApiError;
use aws_lc_rs::hmac;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use lapstrake_core::cluster::request::{Expected, Once, Request};
use lapstrake_core::cluster::tag::Tag;
use lapstrake_core::ids::TokenId;

/// The name that the asking one gives to a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// An answer about one thing, with the tag of its records.
pub struct Tagged<T>(pub Tag, pub T);

impl<T: IntoResponse> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", self.0)) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// What a mutation says besides its command. Its body is read for that where it has a key, and given back.
pub async fn of(parts: &Parts, body: Body, token: TokenId) -> Result<(Request, Body), ApiError> {
    if parts.method.is_safe() {
        return Ok((Request::default(), body));
    }
    let expects = expected(&parts.headers)?;
    let Some(key) = text(&parts.headers, IDEMPOTENCY_KEY)? else {
        return Ok((Request { once: None, expects }, body));
    };
    // Quoted as the draft of the header's standard has it, or bare as most programs send it.
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(&key).to_owned();
    let bytes = body::bytes(body, body::SPEC_BYTES).await?;
    let digest = digest(parts, &bytes);
    Ok((Request { once: Some(Once { token, key, digest }), expects }, Body::from(bytes)))
}

/// Tells a request from others. Keyed with the token that the request shows, of which the store only has a hash: a body
/// may hold a secret, and what is stored must not help to guess it.
fn digest(parts: &Parts, body: &[u8]) -> String {
    let shown = parts.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, shown));
    // Neither a method nor an address has a line end, so no two requests give the same bytes.
    for part in [parts.method.as_str(), parts.uri.path(), parts.uri.query().unwrap_or_default()] {
        context.update(part.as_bytes());
        context.update(b"\n");
    }
    context.update(body);
    context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    let unreadable = || ApiError::bad_request(format!("the header {name} cannot be read"));
    match (first, second) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim().to_owned())).map_err(|_| unreadable()),
        (Some(_), Some(_)) => Err(ApiError::bad_request(format!("the header {name} is there twice"))),
    }
}

/// `If-Match`. A text that is no tag of ours matches nothing, so it is left out.
fn expected(headers: &HeaderMap) -> Result<Option<Expected>, ApiError> {
    let Some(said) = text(headers, IF_MATCH.as_str())? else { return Ok(None) };
    if said == "*" {
        return Ok(Some(Expected::Anything));
    }
    let tags = said.split(',').map(str::trim).filter_map(|tag| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    Ok(Some(Expected::OneOf(tags.collect())))
}

/// Whether a reader has this already. Tags compare weakly here, as for every reader's copy.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let (Some(said), Ok(tag)) = (headers.get(IF_NONE_MATCH).and_then(|said| said.to_str().ok()), tag.to_str()) else {
        return false;
    };
    said.trim() == "*" || said.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// Makes an answer 304 where the reader has named its tag. No answer is to be kept by a browser or a proxy between: a tag
/// tells about records, and the readings beside them would be old ones.
pub fn answered(method: &Method, headers: &HeaderMap, response: Response) -> Response {
    let known = response.headers().get(ETAG).is_some_and(|tag| is_known(headers, tag));
    let mut response = if known && response.status() == StatusCode::OK && method == Method::GET {
        let tag = response.headers().get(ETAG).cloned();
        let mut same = StatusCode::NOT_MODIFIED.into_response();
        same.headers_mut().extend(tag.map(|tag| (ETAG, tag)));
        same
    } else {
        response
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::cluster::Cluster;

    fn parts(method: Method, uri: &str, token: &str) -> Parts {
        let request = axum::http::Request::builder().method(method).uri(uri).header(AUTHORIZATION, token);
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_request_is_told_from_every_other_by_method_address_body_and_token() {
        let of = |method, uri, token, body: &[u8]| digest(&parts(method, uri, token), body);
        let same = of(Method::POST, "/v1/apps?a=1", "Bearer x", b"{}");
        assert_eq!(same, of(Method::POST, "/v1/apps?a=1", "Bearer x", b"{}"));
        for other in [
            of(Method::DELETE, "/v1/apps?a=1", "Bearer x", b"{}"),
            of(Method::POST, "/v1/app?a=1", "Bearer x", b"{}"),
            of(Method::POST, "/v1/apps?a=2", "Bearer x", b"{}"),
            of(Method::POST, "/v1/apps?a=1", "Bearer x", b"{ }"),
            of(Method::POST, "/v1/apps?a=1", "Bearer y", b"{}"),
        ] {
            assert_ne!(other, same);
        }
    }

    #[test]
    fn only_tags_of_ours_can_match() {
        let tag = Cluster::default().tag([]);
        let of = |said: &str| {
            let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_str(said).expect("a value"))]);
            expected(&headers).expect("can be read")
        };
        assert_eq!(of("*"), Some(Expected::Anything));
        assert_eq!(of(&format!("\"old\", \"{tag}\"")), Some(Expected::OneOf(vec![tag])));
        for wrong in [tag.to_string(), format!("W/\"{tag}\""), "\"".into(), String::new()] {
            assert_eq!(of(&wrong), Some(Expected::OneOf(Vec::new())), "{wrong}");
        }
    }
}
