use super::*;

const WEB: &str = "shop/production/web";
const ASIDE: &str = "shop/production/aside";

fn found(path: &str, slot: &str, job: &str) -> Found {
    let line = format!("c-{job} 2026-11-21T02:00:00Z running {path} {slot} {job} 1");
    Found::list(&line).remove(0)
}

fn service(path: &str, job: &str, revision: u32) -> Service {
    Service {
        path: path.into(),
        state: "healthy".into(),
        message: "all is well".into(),
        scale: 1,
        healthy: 1,
        revision: Some(revision),
        jobs: vec![Job { id: job.into(), revision, attempt: 1 }],
    }
}

fn deployment(number: u32) -> Deployment {
    Deployment { service: WEB.into(), number, phase: "complete".into(), ended: true, message: None, slots: Vec::new() }
}

/// `web.1` went from its old job to its new one, `aside.1` beside it stayed.
fn good() -> Case {
    Case {
        service: WEB.into(),
        before: vec![found(WEB, "web.1", "old"), found(ASIDE, "aside.1", "beside")],
        after: vec![found(WEB, "web.1", "new"), found(ASIDE, "aside.1", "beside")],
        services: vec![service(WEB, "new", 2), service(ASIDE, "beside", 1)],
        deployments: vec![deployment(2), deployment(1)],
        acknowledged: vec![(WEB.into(), 1), (WEB.into(), 2)],
        load: None,
    }
}

fn failed_after(change: impl FnOnce(&mut Case)) -> Vec<String> {
    let mut case = good();
    change(&mut case);
    let sheet = judge(&case);
    sheet.checks.into_iter().filter(|check| !check.passed()).map(|check| check.sentence).collect()
}

#[test]
fn a_cluster_in_its_new_version_passes() {
    assert_eq!(failed_after(|_| {}), Vec::<String>::new());
    assert_eq!(ended_as(&good()), "complete, 2");
}

#[test]
fn a_lost_deployment_fails() {
    let failed = failed_after(|case| drop(case.deployments.remove(0)));
    assert_eq!(failed, ["every deployment that was acknowledged is listed"]);
}

#[test]
fn a_deployment_that_is_older_than_all_that_are_kept_is_not_lost() {
    let kept = |numbers: [u32; 2]| {
        move |case: &mut Case| {
            case.deployments = numbers.map(deployment).into();
            case.acknowledged = [1, 5, 6, 7].map(|number| (WEB.into(), number)).into();
        }
    };
    assert_eq!(failed_after(kept([7, 5])), ["every deployment that was acknowledged is listed"], "6 is missing");
    assert_eq!(failed_after(kept([7, 6])), Vec::<String>::new(), "1 and 5 have been forgotten");
}

#[test]
fn an_orphan_fails_and_is_a_double_too() {
    let failed = failed_after(|case| case.after.push(found(WEB, "web.1", "old")));
    assert_eq!(
        failed,
        ["every container is the running attempt of a job that the controller names", "no slot has two containers"]
    );
}

#[test]
fn a_job_without_a_container_fails() {
    assert_eq!(failed_after(|case| drop(case.after.remove(0))), ["every job has its container"]);
}

#[test]
fn a_restart_of_what_was_well_fails() {
    let failed = failed_after(|case| case.after[1].started = "2026-11-21T02:30:00Z".into());
    assert_eq!(failed, ["no container of another service was touched", "no job was restarted"]);
}

#[test]
fn two_versions_at_the_end_fail() {
    let failed = failed_after(|case| case.services[0].jobs[0].revision = 1);
    assert_eq!(failed, ["every service runs one version, the active one"]);
}
