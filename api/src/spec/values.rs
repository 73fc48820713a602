//! What single values of a spec file look like: amounts, times, and the rules of texts.

use super::name::Name;
use lapstrake_core::cluster::values::{why_not_a_variable, why_not_called};
use lapstrake_core::quote::is_acting;
use lapstrake_core::values::ValueKind;

/// What a text must look like.
pub(super) struct Rule {
    /// What a message calls it, with its article.
    pub what: &'static str,
    /// Says what is wrong with a text that is no such thing.
    pub check: fn(&str) -> Result<(), String>,
    /// The same for editors, as far as a pattern can say it.
    pub pattern: &'static str,
    /// Whether nothing between quotes is one, too.
    pub may_be_empty: bool,
}

/// The name of an application, environment or service.
pub(super) static NAME: Rule = Rule {
    what: "a name",
    check: |text| Name::check(text).map_err(|why| why.to_string()),
    pattern: "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$",
    may_be_empty: false,
};

/// The name of a secret, as `lap secret set` takes it.
pub(super) static SECRET: Rule = Rule {
    what: "the name of a secret",
    check: |text| why_not_called(ValueKind::Secret, text).map_or(Ok(()), Err),
    pattern: NAME.pattern,
    may_be_empty: false,
};

/// The reference of an image.
pub(super) static IMAGE: Rule =
    Rule { what: "an image reference", check: check_image, pattern: "^[^\\s]+$", may_be_empty: false };

/// The path prefix of a route.
pub(super) static ROUTE_PATH: Rule =
    Rule { what: "a path prefix", check: check_route_path, pattern: "^/[^\\s?#]*$", may_be_empty: false };

/// The path of a health check.
pub(super) static CHECK_PATH: Rule =
    Rule { what: "a path", check: check_path, pattern: "^/[^\\s#]*$", may_be_empty: false };

/// A host name.
pub(super) static HOST: Rule =
    Rule { what: "a host name", check: check_host, pattern: "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", may_be_empty: false };

/// The name of a gRPC service; empty for the whole server.
pub(super) static GRPC_SERVICE: Rule =
    Rule { what: "the name of a gRPC service", check: check_grpc, pattern: "^[A-Za-z0-9_./]*$", may_be_empty: true };

/// The units of a span of time, largest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// The units of memory, largest first. Decimal ones are left out: people disagree on what `512M` means.
const BYTE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// A path longer than this is no prefix that a person wrote, and the proxy compares it for every request.
const MAX_PATH_LEN: usize = 1024;
/// The kernel's longest path (`PATH_MAX` with its end) and the longest name in it (`NAME_MAX`).
const MAX_FILE_PATH_LEN: usize = 4095;
const MAX_FILE_NAME_LEN: usize = 255;
/// Folders that the kernel or the engine fills; what is laid over them is hidden or breaks programs.
const KERNEL_FOLDERS: [&str; 3] = ["proc", "sys", "dev"];
/// The longest name in DNS, and its longest label.
const MAX_HOST_LEN: usize = 253;
pub(super) const MAX_LABEL_LEN: usize = 63;
/// The limits of the registries' own grammar.
const MAX_REPOSITORY_LEN: usize = 255;
const MAX_TAG_LEN: usize = 128;
const DIGEST_HEX_LEN: usize = 64;

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// `1h30m`, `30s`, `250ms`: whole numbers with units, each unit once, the largest first.
pub(super) fn span(text: &str) -> Option<u64> {
    let mut units = TIME_UNITS.iter();
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let (number, tail) = leading_digits(rest);
        let unit_len = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (written, tail) = tail.split_at(unit_len);
        let (_, worth) = units.by_ref().find(|(unit, _)| *unit == written)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*worth)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// A span as `span` reads it.
pub(super) fn print_span(millis: u64) -> String {
    let mut rest = millis;
    let mut printed = String::new();
    for (unit, worth) in TIME_UNITS {
        if rest >= worth {
            printed += &format!("{}{unit}", rest / worth);
            rest %= worth;
        }
    }
    if printed.is_empty() { "0s".to_owned() } else { printed }
}

/// `256MiB`, `1GiB`: a whole number and a unit.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, written) = leading_digits(text);
    let (_, worth) = BYTE_UNITS.iter().find(|(unit, _)| *unit == written)?;
    number.parse::<u64>().ok()?.checked_mul(*worth)
}

/// An amount as `bytes` reads it, in the largest unit that is exact.
pub(super) fn print_bytes(amount: u64) -> String {
    let exact = BYTE_UNITS.iter().find(|(_, worth)| amount >= *worth && amount.is_multiple_of(*worth));
    let (unit, worth) = exact.unwrap_or(&("B", 1));
    format!("{}{unit}", amount / worth)
}

/// `2`, `0.5`, `0.125`: cores with up to three decimals, in thousandths.
pub(super) fn cpu(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{decimals:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)
}

/// Cores as `cpu` reads them.
pub(super) fn print_cpu(milli: u64) -> String {
    let printed = format!("{}.{:03}", milli / 1000, milli % 1000);
    printed.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A whole number in digits, without leading zeros, which other YAML readers take for octal.
pub(super) fn count(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The name of an environment variable that is not Lapstrake's own.
pub(super) fn check_variable(text: &str) -> Result<(), String> {
    why_not_a_variable(text).map_or(Ok(()), Err)
}

/// Permission bits in octal: `0400` or `400`, at most `0777`. The bits above would let a file change who runs it.
pub(super) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('0').filter(|rest| !rest.is_empty()).unwrap_or(text);
    let octal = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if octal { u32::from_str_radix(digits, 8).ok() } else { None }
}

/// Permission bits as `mode` reads them.
pub(super) fn print_mode(mode: u32) -> String {
    format!("{mode:04o}")
}

/// The path of a file in a container, which every node finds at the same place.
pub(super) fn check_file_path(text: &str) -> Result<(), String> {
    let Some(inner) = text.strip_prefix('/') else {
        return Err("it begins with `/`: where a program runs is the image's affair".to_owned());
    };
    if inner.is_empty() {
        return Err("`/` is a folder".to_owned());
    }
    if inner.ends_with('/') {
        return Err("it does not end with `/`, because it is a file's".to_owned());
    }
    if text.len() > MAX_FILE_PATH_LEN || inner.split('/').any(|part| part.len() > MAX_FILE_NAME_LEN) {
        return Err(format!("it has at most {MAX_FILE_PATH_LEN} bytes, and each part {MAX_FILE_NAME_LEN}"));
    }
    if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it has no empty part, no `.` and no `..`".to_owned());
    }
    if text.contains(is_acting) {
        return Err("it has no control characters, and none that hide or turn the reading direction".to_owned());
    }
    let first = inner.split('/').next().unwrap_or_default();
    if KERNEL_FOLDERS.contains(&first) {
        return Err(format!("`/{first}` is the kernel's; `/run/secrets` is a usual place"));
    }
    Ok(())
}

/// `[host[:port]/]repository[:tag][@sha256:...]`, or the id of a local image.
fn check_image(text: &str) -> Result<(), String> {
    if let Some(id) = text.strip_prefix("sha256:") {
        return check_digest(id);
    }
    let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
    if let Some(digest) = digest {
        check_digest(digest.strip_prefix("sha256:").ok_or("what follows the `@` is not `sha256:` and a digest")?)?;
    }
    let last_part = named.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match named[last_part..].split_once(':') {
        Some((last, tag)) => (&named[..last_part + last.len()], Some(tag)),
        None => (named, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if repository.len() > MAX_REPOSITORY_LEN {
        return Err(format!("its repository has more than {MAX_REPOSITORY_LEN} characters"));
    }
    let (registry, path) = match repository.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), path),
        _ => (None, repository),
    };
    if let Some(registry) = registry {
        check_registry(registry)?;
    }
    path.split('/').try_for_each(check_repository_part)
}

fn check_digest(hex: &str) -> Result<(), String> {
    let digits = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if hex.len() == DIGEST_HEX_LEN && digits {
        return Ok(());
    }
    Err(format!("a digest is `sha256:` and {DIGEST_HEX_LEN} characters of 0-9 and a-f"))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let all = tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && all && tag.len() <= MAX_TAG_LEN {
        return Ok(());
    }
    Err(format!("a tag has 1 to {MAX_TAG_LEN} letters, digits, `_`, `.` and `-`, and starts with none of the last two"))
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
    let host_is_good = !host.is_empty() && host.split('.').all(|label| check_label(label, true).is_ok());
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0));
    if host_is_good && port_is_good { Ok(()) } else { Err("its registry is not a host with perhaps a port".to_owned()) }
}

fn check_repository_part(part: &str) -> Result<(), String> {
    let between = |b: u8| matches!(b, b'_' | b'.' | b'-');
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err("it has an empty part".to_owned());
    };
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return Err("a repository is written in lower case".to_owned());
    }
    let all = bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9') || between(*b));
    if !all || between(*first) || between(*last) || part.contains("..") {
        return Err("a part of a repository has letters, digits and, between them, `.`, `_` and `-`".to_owned());
    }
    Ok(())
}

fn check_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("a path starts with `/`".to_owned());
    }
    if text.len() > MAX_PATH_LEN {
        return Err(format!("a path has at most {MAX_PATH_LEN} characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err("a path has no spaces, no `#` and only ASCII; others are written as `%` and two digits".to_owned());
    }
    Ok(())
}

fn check_route_path(text: &str) -> Result<(), String> {
    check_path(text)?;
    if text.contains(['?', '*']) {
        return Err("a path prefix has no `?` and no `*`; it leads all below it here".to_owned());
    }
    if text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        return Err("a path prefix has no empty part, no `.` and no `..`".to_owned());
    }
    Ok(())
}

fn check_host(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return Err("it is a name without `http://`".to_owned());
    }
    if text.contains([':', '/']) {
        return Err("it is a name without a port and without a path".to_owned());
    }
    if text.contains('*') {
        return Err("this version has no wildcards".to_owned());
    }
    if text.len() > MAX_HOST_LEN {
        return Err(format!("it has more than {MAX_HOST_LEN} characters"));
    }
    text.split('.').try_for_each(|label| check_label(label, false))?;
    if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("an address is not a name".to_owned());
    }
    Ok(())
}

fn check_label(label: &str, upper_case: bool) -> Result<(), String> {
    let bytes = label.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_LABEL_LEN {
        return Err(format!("between its dots are 1 to {MAX_LABEL_LEN} characters"));
    }
    if !upper_case && bytes.iter().any(u8::is_ascii_uppercase) {
        return Err("it is written in lower case".to_owned());
    }
    let all = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    if !all || bytes.starts_with(b"-") || bytes.ends_with(b"-") {
        return Err("it has letters, digits and, between them, `-`".to_owned());
    }
    Ok(())
}

fn check_grpc(text: &str) -> Result<(), String> {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/')) {
        return Ok(());
    }
    Err("it has only letters, digits, `_`, `.` and `/`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_whole_numbers_with_units_the_largest_first() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1s500ms", Some(1500)),
            ("30", None),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("30m1h", None),
            ("1s1s", None),
            ("-1s", None),
            ("1d", None),
            ("5M", None),
            ("99999999999999999999h", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(span(text), millis, "{text:?}");
        }
    }

    #[test]
    fn memory_has_binary_units_only() {
        assert_eq!(bytes("256MiB"), Some(256 << 20));
        assert_eq!(bytes("1GiB"), Some(1 << 30));
        assert_eq!(bytes("7B"), Some(7));
        for text in ["512M", "512MB", "512m", "512Mi", "512", "MiB", "1.5GiB", "", "99999999TiB", "-1MiB", "1 GiB"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn cores_have_up_to_three_decimals() {
        for (text, milli) in [("2", 2000), ("0.5", 500), ("0.125", 125), ("1.10", 1100), ("0", 0)] {
            assert_eq!(cpu(text), Some(milli), "{text}");
        }
        for text in ["", ".", ".5", "1.", "0.0001", "500m", "1e3", "-1", "1,5", "٣"] {
            assert_eq!(cpu(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn amounts_are_read_back_as_they_were_printed(value: u64) {
            prop_assert_eq!(span(&print_span(value)), Some(value));
            prop_assert_eq!(bytes(&print_bytes(value)), Some(value));
            prop_assert_eq!(cpu(&print_cpu(value)), Some(value));
            prop_assert_eq!(count(&value.to_string()), Some(value));
        }
    }

    #[test]
    fn permission_bits_are_octal_and_none_lets_a_file_change_who_runs_it() {
        let read = ["0400", "400", "0777", "0000", "0", "7"].map(mode);
        assert_eq!(read, [0o400, 0o400, 0o777, 0, 0, 7].map(Some));
        for text in ["", "0o400", "1777", "04755", "00400", "0480", "-400", "r--", "0400 ", "+400"] {
            assert_eq!(mode(text), None, "{text:?}");
        }
        assert_eq!([0o400, 0o7].map(print_mode), ["0400", "0007"]);
    }

    #[test]
    fn a_file_has_one_absolute_path_outside_of_the_kernels_folders() {
        for good in ["/a", "/run/secrets/tls.key", "/etc/a b/ü", "/device/x", "/a/...", "/run/dev"] {
            assert_eq!(check_file_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/",
            "a",
            "./a",
            "~/a",
            "//a",
            "/a//b",
            "/a/",
            "/a/./b",
            "/a/..",
            "/../a",
            "/proc/1/x",
            "/sys",
            "/dev/shm/x",
            "/a\n",
            "/a\u{202e}b",
            "/a\0",
        ] {
            assert!(check_file_path(bad).is_err(), "{bad:?}");
        }
        assert!(check_file_path(&format!("/{}", "a".repeat(256))).is_err());
        assert!(check_file_path(&"/a".repeat(2048)).is_err());
    }

    #[test]
    fn image_references_follow_the_grammar_of_the_registries() {
        let digest = "a".repeat(64);
        for good in [
            "nginx",
            "nginx:1.27",
            "library/nginx",
            "localhost/shop",
            "localhost:5000/shop/web:dev",
            "registry.example.com/shop/web:1.4.2",
            "127.0.0.1:5000/a__b/c-d.e:_x",
            &format!("shop/web@sha256:{digest}"),
            &format!("shop/web:1@sha256:{digest}"),
            &format!("sha256:{digest}"),
        ] {
            assert_eq!(check_image(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/web",
            "shop//web",
            "shop/web:",
            "shop/web:-1",
            "shop/web:a b",
            "Shop/web",
            "shop/web@sha256:abc",
            "shop/web@md5:abc",
            "https://registry.example.com/web",
            "registry.example.com:port/web",
            "-shop",
            "shop web",
            "sho\u{1b}p",
            "shöp",
            &format!("x/{}", "y".repeat(300)),
        ] {
            assert!(check_image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_dns_names_in_lower_case() {
        for good in ["shop.example.com", "localhost", "shop.localhost", "a-1.b2.example", "xn--bcher-kva.example"] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "Shop.example.com",
            "shop_1.example",
            "-a.example",
            "a..b",
            "a.",
            "10.0.0.1",
            "a:80",
            "http://a",
            "*.a",
            "a/b",
        ] {
            assert!(check_host(bad).is_err(), "{bad}");
        }
        assert!(check_host(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(check_host(&["a"; 130].join(".")).is_err());
    }

    #[test]
    fn path_prefixes_have_nothing_that_a_request_path_cannot_have() {
        for good in ["/", "/api", "/api/", "/a/b-c_d.e/~f", "/%20"] {
            assert_eq!(check_route_path(good), Ok(()), "{good}");
        }
        for bad in ["", "api", "/a b", "/a?b", "/a#b", "/a*", "//", "/a//b", "/a/../b", "/ä", "/a\n"] {
            assert!(check_route_path(bad).is_err(), "{bad}");
        }
        assert_eq!(check_path("/healthz?full=1"), Ok(()));
    }
}
