//! Lists, a page at a time. Every list has the same two parameters and names its next page in the same way:
//!
//! ```text
//! GET /v1/services?limit=2                 ->  [a, b]   Link: </v1/services?limit=2&after=CURSOR>; rel="next"
//! GET /v1/services?limit=2&after=CURSOR    ->  [c]      no Link: that was the last
//! ```
//!
//! A cursor says after what the next page begins, not how many were before it: what comes or goes meanwhile makes nothing
//! else appear twice or not at all.

use super::problem::ApiError;
use axum::Json;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// So many are on a page unless the request says otherwise.
pub const DEFAULT: u32 = 100;
/// And so many at most.
pub const MOST: u32 = 500;

/// The parameters of a list that has no others.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// How many a page has, 100 unless it is said, at most 500.
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
    /// The cursor of the page, from the header `Link` of the one before.
    pub after: Option<String>,
}

/// The parameters of a list of what lies in applications and environments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Below {
    /// Only those of this path and what lies below: `shop`, `shop/production`.
    pub below: Option<String>,
    /// How many a page has, 100 unless it is said, at most 500.
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
    /// The cursor of the page, from the header `Link` of the one before.
    pub after: Option<String>,
}

/// Which page is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    limit: usize,
    after: Option<String>,
}

/// How many a page has, as a request says it.
pub fn limit(said: Option<u32>) -> Result<u32, ApiError> {
    match said.unwrap_or(DEFAULT) {
        limit @ 1..=MOST => Ok(limit),
        other => Err(ApiError::bad_request(format!("limit is {other}; a page has between 1 and {MOST}"))),
    }
}

/// What is counted in 64 bits is stored in 63: a number beyond that is a mistake, and not one that nothing comes after.
pub fn refuse_beyond_counting(name: &str, said: Option<u64>) -> Result<(), ApiError> {
    match said.filter(|number| i64::try_from(*number).is_err()) {
        Some(number) => Err(ApiError::bad_request(format!("{name} is {number}; at most {} is counted", i64::MAX))),
        None => Ok(()),
    }
}

impl Wanted {
    /// As a request says it.
    pub fn new(said: Option<u32>, after: Option<String>) -> Result<Wanted, ApiError> {
        Ok(Wanted { limit: limit(said)? as usize, after })
    }

    /// Cuts the page out of the whole list, which is in the order of its cursors.
    pub fn of<T>(&self, all: impl IntoIterator<Item = (String, T)>) -> Page<T> {
        let after = self.after.as_deref();
        let mut rest = all.into_iter().skip_while(|(cursor, _)| after.is_some_and(|after| cursor.as_str() <= after));
        let mut items = Vec::new();
        let mut last = None;
        for (cursor, item) in rest.by_ref().take(self.limit) {
            last = Some(cursor);
            items.push(item);
        }
        Page { next: rest.next().and(last), items }
    }
}

/// A page of a list: its items as a JSON list, and in the header `Link` where the next one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// After what the next page begins; none of the last.
    pub next: Option<String>,
}

/// The cursor of the next page, until the request's own address is at hand to put it into.
#[derive(Debug, Clone)]
struct Next(String);

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.items).into_response();
        if let Some(next) = self.next {
            response.extensions_mut().insert(Next(next));
        }
        response
    }
}

/// Adds the header to the answer of a list.
pub fn link(asked: &Uri, response: &mut Response) {
    let Some(Next(cursor)) = response.extensions_mut().remove() else { return };
    let kept = asked.query().unwrap_or_default().split('&');
    let kept = kept.filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("after={cursor}")]).collect();
    let link = format!("<{}?{}>; rel=\"next\"", asked.path(), query.join("&"));
    if let Ok(link) = HeaderValue::try_from(link) {
        response.headers_mut().insert(header::LINK, link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(all: &[&str], limit: u32) -> Vec<Vec<String>> {
        let mut after = None;
        let mut pages = Vec::new();
        loop {
            let wanted = Wanted::new(Some(limit), after).expect("a limit");
            let Page { items, next } = wanted.of(all.iter().map(|it| ((*it).to_owned(), (*it).to_owned())));
            pages.push(items);
            after = next;
            if after.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_are_the_whole_list_in_its_order_and_the_last_names_no_next() {
        let all = ["a", "b", "c", "d"];
        assert_eq!(pages(&all, 2), [["a", "b"], ["c", "d"]]);
        assert_eq!(pages(&all, 3), [vec!["a", "b", "c"], vec!["d"]]);
        assert_eq!(pages(&all, 4).len(), 1);
        assert_eq!(pages(&[], 4), [Vec::<String>::new()]);
    }

    #[test]
    fn what_goes_between_two_pages_makes_nothing_else_be_missed() {
        let wanted = Wanted::new(Some(1), Some("b".into())).expect("a limit");
        let page = wanted.of([("a", 1), ("c", 3), ("d", 4)].map(|(cursor, item)| (cursor.to_owned(), item)));
        assert_eq!((page.items, page.next.as_deref()), (vec![3], Some("c")));
    }

    #[test]
    fn a_page_of_none_or_of_too_many_is_refused() {
        assert!(Wanted::new(Some(0), None).is_err() && Wanted::new(Some(MOST + 1), None).is_err());
        assert!(Wanted::new(Some(MOST), None).is_ok() && Wanted::new(None, None).is_ok());
    }

    #[test]
    fn the_next_page_keeps_what_else_was_asked_for() {
        let mut response = Page { items: vec![1], next: Some("shop/staging".into()) }.into_response();
        link(&Uri::from_static("/v1/services?below=shop&after=old&limit=1"), &mut response);
        assert_eq!(
            response.headers()[header::LINK],
            "</v1/services?below=shop&limit=1&after=shop/staging>; rel=\"next\""
        );
    }
}
