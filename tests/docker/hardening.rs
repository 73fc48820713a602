//! What every job's container is given and denied, in the engine's own words.

use crate::machine::{HELLO, Machine, docker, image};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jobs_container_has_limits_few_capabilities_no_published_port_and_labels_that_tell_whose_it_is() {
    let machine = Machine::start().await;
    let service = machine.serve(&image("lapt-v1", &[]), "local").await;
    let job = &service.jobs[0];
    let told = docker(&["inspect", &format!("lap-{}-1", job.id)]);
    let told: Value = serde_json::from_str(&told).expect("what docker inspect prints");
    let (host, config) = (&told[0]["HostConfig"], &told[0]["Config"]);

    assert_eq!(host["CapDrop"], json!(["ALL"]));
    let kept = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"];
    assert_eq!(host["CapAdd"], json!(kept));
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!(host["Privileged"], json!(false));
    assert_eq!(host["Memory"], json!(64 << 20));
    assert_eq!(host["MemorySwap"], json!(64 << 20), "no swap beside the limit");
    assert_eq!(host["NanoCpus"], json!(250_000_000));
    assert_eq!(host["PidsLimit"], json!(77));
    assert_eq!(host["RestartPolicy"]["Name"], json!("no"), "restarts are the agent's");
    assert_eq!(host["LogConfig"]["Config"], json!({ "max-file": "3", "max-size": "10m" }));
    assert_eq!(host["Init"], json!(true));
    assert!(host["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty), "{}", host["PortBindings"]);
    assert_eq!(host["PublishAllPorts"], json!(false));
    assert!(host["Binds"].is_null() && told[0]["Mounts"] == json!([]), "nothing of the host is in it");

    let label = |word: &str| config["Labels"][format!("dev.lapstrake.{word}")].as_str().unwrap_or("none").to_owned();
    assert_eq!(label("cluster"), machine.cluster);
    assert_eq!((label("job"), label("attempt"), label("slot")), (job.id.clone(), "1".into(), "web.1".into()));
    assert_eq!((label("path"), label("revision")), (HELLO.into(), "r1".into()));
    let networks = told[0]["NetworkSettings"]["Networks"].as_object().expect("networks");
    assert_eq!(networks.len(), 1, "only its environment's: {networks:?}");
    let address = networks.values().next().map(|network| network["IPAddress"].clone());
    assert_eq!(address, Some(json!(job.address)));
}
