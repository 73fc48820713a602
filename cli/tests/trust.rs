//! Whom `lap` shows a token to when something with another certificate stands before the controller.

mod support;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{FakeController, code, lap_at_home, run, stderr};

const VERSION: &str = r#"{"version":"0.1.0","cluster":"c","organization":"home"}"#;

/// Somebody else's authority: a root, and an intermediate that signs, as public ones have it.
struct TestCa {
    root_pem: String,
    middle: Issuer<'static, KeyPair>,
    middle_der: CertificateDer<'static>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl TestCa {
    fn create() -> TestCa {
        let (root_key, middle_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let root_params = authority("a root of the test");
        let root_pem = root_params.self_signed(&root_key).expect("a root").pem();
        let root = Issuer::new(root_params, root_key);
        let middle_params = authority("an intermediate of the test");
        let middle_der = middle_params.signed_by(&middle_key, &root).expect("signed").der().clone();
        TestCa { root_pem, middle_der, middle: Issuer::new(middle_params, middle_key) }
    }

    /// A controller that shows a certificate for these names.
    fn controller(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> FakeController {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.middle).expect("signed").der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let controller = FakeController::behind(vec![leaf, self.middle_der.clone()], key);
        controller.answer("GET /v1/version", 200, VERSION).answer("GET /v1/apps", 200, "[]");
        controller
    }

    fn file(&self, home: &Path) -> PathBuf {
        let file = home.join("root.pem");
        std::fs::write(&file, &self.root_pem).expect("written");
        file
    }
}

fn log_in(home: &Path, url: &str, token: &str, more: &[&str]) -> Output {
    run(&mut lap_at_home(home, &[&["login", url, token], more].concat()))
}

/// That it was refused in one clear sentence, and nothing was asked.
fn is_refused(output: &Output, parts: &[&str], controller: &FakeController) {
    let said = stderr(output);
    assert_eq!(code(output), 3, "{said}");
    for part in parts {
        assert!(said.contains(part), "{said} has no {part}");
    }
    assert!(said.contains("the token was not sent"), "{said}");
    assert_eq!(controller.asked().len(), 0, "nothing was said to it");
}

#[test]
fn a_login_with_a_file_of_roots_trusts_them_from_then_on_without_the_file() {
    let (home, ca) = (tempfile::tempdir().expect("a folder"), TestCa::create());
    let controller = ca.controller(&["127.0.0.1"], |_| ());
    let file = ca.file(home.path());
    let (url, token) = (controller.url(), controller.token());
    is_refused(&log_in(home.path(), &url, &token, &[]), &["another certificate authority", "--ca-file"], &controller);
    let output = log_in(home.path(), &url, &token, &["--ca-file", file.to_str().expect("UTF-8")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("for 127.0.0.1 by one of the 1 roots of"), "{}", stderr(&output));
    std::fs::remove_file(file).expect("removed");
    let asked = controller.asked().len();
    for arguments in [&["app", "ls"][..], &["version"]] {
        let output = run(&mut lap_at_home(home.path(), arguments));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    assert_eq!(controller.asked().len(), asked + 2);
    assert_eq!(controller.asked()[asked].token.as_ref(), Some(&token));
    // A login without the file is one by the authority again.
    let output = run(&mut lap_at_home(home.path(), &["login", &url, &token]));
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}

#[test]
fn a_certificate_for_another_name_is_refused_and_both_names_are_said() {
    let (home, ca) = (tempfile::tempdir().expect("a folder"), TestCa::create());
    let file = ca.file(home.path());
    let more = ["--ca-file", file.to_str().expect("UTF-8")];
    let controller = ca.controller(&["controller.shop.test", "lap.shop.test"], |_| ());
    let output = log_in(home.path(), &controller.url(), &controller.token(), &more);
    is_refused(&output, &["is not for 127.0.0.1 but for \"controller.shop.test\", \"lap.shop.test\""], &controller);
    let by_name = controller.url().replace("127.0.0.1", "localhost");
    let output = log_in(home.path(), &by_name, &controller.token(), &more);
    is_refused(&output, &["is not for localhost but for"], &controller);
    // A name that the certificate has is not the address's only because it is the same machine.
    let controller = ca.controller(&["127.0.0.1"], |_| ());
    let by_name = controller.url().replace("127.0.0.1", "localhost");
    let output = log_in(home.path(), &by_name, &controller.token(), &more);
    is_refused(&output, &["is not for localhost but for \"127.0.0.1\""], &controller);
    assert!(!home.path().join("lapstrake/lap.toml").exists(), "nothing was stored");
}

#[test]
fn a_certificate_of_another_root_or_one_that_has_ended_is_refused() {
    let (home, ca, other) = (tempfile::tempdir().expect("a folder"), TestCa::create(), TestCa::create());
    let file = ca.file(home.path());
    let more = ["--ca-file", file.to_str().expect("UTF-8")];
    let controller = other.controller(&["127.0.0.1"], |_| ());
    let output = log_in(home.path(), &controller.url(), &controller.token(), &more);
    is_refused(&output, &["was not made by any root of"], &controller);
    let controller = ca.controller(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    let output = log_in(home.path(), &controller.url(), &controller.token(), &more);
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("cannot be trusted") && said.contains("the token was not sent"), "{said}");
    assert!(said.contains("expired"), "{said}");
    assert_eq!(controller.asked().len(), 0);
    // The controller's own authority is no root of the file either: one of the two counts, not both.
    let controller = FakeController::start();
    let output = log_in(home.path(), &controller.url(), &controller.token(), &more);
    is_refused(&output, &["was not made by any root of"], &controller);
}

#[test]
fn the_systems_roots_count_when_they_are_asked_for_and_ssl_cert_file_names_them() {
    let (home, ca, other) = (tempfile::tempdir().expect("a folder"), TestCa::create(), TestCa::create());
    let controller = ca.controller(&["127.0.0.1"], |_| ());
    let file = ca.file(home.path());
    let (url, token) = (controller.url(), controller.token());
    let lap = |roots: Option<&Path>, arguments: &[&str]| {
        let mut command = lap_at_home(home.path(), arguments);
        run(command.envs(roots.map(|file| ("SSL_CERT_FILE", file))))
    };
    is_refused(&lap(Some(&file), &["login", &url, &token]), &["another certificate authority"], &controller);
    let output = lap(Some(&file), &["login", &url, &token, "--system-roots"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(code(&lap(Some(&file), &["app", "ls"])), 0);
    let elsewhere = home.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    let others = other.file(&elsewhere);
    let output = lap(Some(&others), &["app", "ls"]);
    assert!(code(&output) == 3 && stderr(&output).contains("was not made by any root of this system"), "{output:?}");
    // Of a bundle what cannot be understood is left out.
    let bundle = home.path().join("bundle.pem");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&bundle, format!("# roots\n{broken}{}{}", other.root_pem, ca.root_pem)).expect("written");
    assert_eq!(code(&lap(Some(&bundle), &["app", "ls"])), 0);
    let output = lap(Some(Path::new("/nonexistent/roots.pem")), &["app", "ls"]);
    assert!(code(&output) == 2 && stderr(&output).contains("/nonexistent/roots.pem"), "{}", stderr(&output));
}

#[test]
fn a_token_that_is_stored_with_roots_goes_to_no_other_address_that_they_lead_to() {
    let (home, ca) = (tempfile::tempdir().expect("a folder"), TestCa::create());
    let (own, other) = (ca.controller(&["127.0.0.1"], |_| ()), ca.controller(&["127.0.0.1"], |_| ()));
    let file = ca.file(home.path());
    let output = log_in(home.path(), &own.url(), &own.token(), &["--ca-file", file.to_str().expect("UTF-8")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let output = run(&mut lap_at_home(home.path(), &["--url", &other.url(), "app", "ls"]));
    is_refused(&output, &["is not the controller that this token is for"], &other);
}

#[test]
fn roots_that_are_none_and_words_that_contradict_each_other_are_a_wrong_command_line() {
    let (home, ca) = (tempfile::tempdir().expect("a folder"), TestCa::create());
    let controller = ca.controller(&["127.0.0.1"], |_| ());
    let file = ca.file(home.path());
    let good = file.to_str().expect("UTF-8");
    let empty = home.path().join("empty.pem");
    std::fs::write(&empty, "nothing").expect("written");
    let key = KeyPair::generate().expect("a key").serialize_pem();
    let fingerprint = "0".repeat(64);
    let empty = empty.to_str().expect("UTF-8");
    for (more, part) in [
        (&["--ca-file", "/nonexistent/root.pem"][..], "/nonexistent/root.pem"),
        (&["--ca-file", empty], "empty.pem"),
        (&["--ca-file", good, "--fingerprint", &fingerprint], "--fingerprint"),
        (&["--ca-file", good, "--system-roots"], "--ca-file"),
        (&["--system-roots", "--fingerprint", &fingerprint], "--fingerprint"),
    ] {
        let output = log_in(home.path(), &controller.url(), &controller.token(), more);
        assert!(code(&output) == 2 && stderr(&output).contains(part), "{more:?}: {}", stderr(&output));
    }
    std::fs::write(home.path().join("key.pem"), &key).expect("written");
    let output = log_in(
        home.path(),
        &controller.url(),
        &controller.token(),
        &["--ca-file", home.path().join("key.pem").to_str().expect("UTF-8")],
    );
    assert!(code(&output) == 2, "{}", stderr(&output));
    assert!(!stderr(&output).contains(key.lines().nth(1).expect("a line")), "a key is not shown");
    assert_eq!(controller.asked().len(), 0);
}
