//! The loop over Docker's API that applying is compared with: makes and starts containers, so many at once, and asks their
//! check until all are healthy. The requests to Docker and the questions to the containers are the agent's own, so that both
//! sides ask for the same containers in the same network; there is no controller, no ledger, no proxy and no firewall.

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lapstrake_agent::clock::Clock;
use lapstrake_agent::observe::View;
use lapstrake_agent::probe::Prober;
use lapstrake_agent::runtime::docker::DockerRuntime;
use lapstrake_agent::runtime::{Given, Owner, RunOrder, Runtime, RuntimeError};
use lapstrake_core::assignment::{BoundImage, RunSpec, ServicePath};
use lapstrake_core::ids::{ApplicationId, ClusterId, EnvironmentId, JobId, NodeId, ServiceId, SlotId};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen::{Attempt, Seen};
use lapstrake_core::spec::{
    Check, CheckKind, DEFAULT_DEPLOY, ImageSource, Port, Protocol, Pull, ServiceSpec, ServiceType, Size, WhenCutOff,
};
use lapstrake_core::time::Millis;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The port that the sample answers on.
const PORT: u16 = 8080;
/// More is a machine that does not get there.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two tries to remove a container whose process was just killed.
const PAUSE: Duration = Duration::from_millis(20);
/// Removed at once: as quick as the engine gets.
const REMOVALS: usize = 8;

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The engine.
    pub docker_host: String,
    /// The containers' and the network's label, by which they are found and removed.
    pub cluster: ClusterId,
    /// The image, on the engine already.
    pub image: String,
    /// How many containers.
    pub count: u32,
    /// How many are made and started at once.
    pub width: usize,
    /// The address of the network, of 24 bits.
    pub network: Ipv4Addr,
    /// Thousandths of a core of each.
    pub cpu_milli: u32,
    /// Bytes of memory of each.
    pub memory_bytes: u64,
}

/// Starts them, waits until all are healthy, removes all. How long it took from the first request until the last was
/// healthy; the network was there before.
pub async fn run(plan: &Plan) -> anyhow::Result<Duration> {
    ensure!((1..=200).contains(&plan.count), "1 to 200 containers fit the network");
    let owner = Owner { cluster: plan.cluster, node: NodeId(fresh()?) };
    let runtime: Arc<dyn Runtime> = Arc::new(DockerRuntime::new(&plan.docker_host, owner));
    let image = ImageSource { reference: plan.image.clone(), pull: Pull::Local };
    let id = runtime.resolve(&image, None).await.context("the image is not there")?;
    let environment = EnvironmentId(fresh()?);
    let subnet = Subnet { base: plan.network, prefix: 24 };
    runtime.ensure_network(environment, subnet).await.context("no network")?;
    let bound = BoundImage::Id { reference: plan.image.clone(), id };
    let orders: Vec<RunOrder> =
        (0..plan.count).map(|number| order(plan, environment, &bound, number)).collect::<anyhow::Result<_>>()?;
    let took = tokio::time::timeout(LONGEST, until_healthy(&runtime, &orders, plan.width)).await;
    for order in &orders {
        // One that was never made is not there to be killed.
        let _ = runtime.kill(order.attempt).await;
    }
    stream::iter(&orders)
        .map(|order| remove(&*runtime, order.attempt))
        .buffer_unordered(REMOVALS)
        .try_collect::<()>()
        .await?;
    runtime.remove_network(environment).await.context("the network stays")?;
    took.context("not all were healthy in time")?
}

async fn until_healthy(runtime: &Arc<dyn Runtime>, orders: &[RunOrder], width: usize) -> anyhow::Result<Duration> {
    let view = View::new(Seen::default());
    let prober = Prober::new(Arc::clone(runtime), view.clone(), Clock::of_this_boot()?, Arc::default());
    let mut changes = view.subscribe();
    let begun = Instant::now();
    let start = async |order: &RunOrder| {
        runtime.run(order).await?;
        prober.watch(order.attempt, order.address, order.run.spec.health.clone(), false);
        Ok::<(), RuntimeError>(())
    };
    stream::iter(orders).map(start).buffer_unordered(width).try_collect::<()>().await.context("a start")?;
    let is_good = |seen: &Seen, order: &RunOrder| {
        seen.checks.get(&order.attempt).is_some_and(|readings| readings.iter().all(|one| one.good_since.is_some()))
    };
    changes.wait_for(|seen| orders.iter().all(|order| is_good(seen, order))).await.context("the view ended")?;
    Ok(begun.elapsed())
}

async fn remove(runtime: &dyn Runtime, attempt: Attempt) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match runtime.remove(attempt).await {
            Ok(()) | Err(RuntimeError::NotThere(_)) => return Ok(()),
            Err(error) if begun.elapsed() > LONGEST => return Err(error).context("a container stays"),
            // Its process is dying still.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A random number for an id.
pub fn fresh() -> anyhow::Result<u128> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(u128::from_le_bytes(bytes))
}

fn order(plan: &Plan, environment: EnvironmentId, image: &BoundImage, number: u32) -> anyhow::Result<RunOrder> {
    // The gateway has the first address.
    let address = Ipv4Addr::from(u32::from(plan.network) + 2 + number);
    Ok(RunOrder {
        attempt: Attempt { job: JobId(fresh()?), number: 1 },
        slot: SlotId { service: ServiceId(1), target: "web".into(), number: number + 1 },
        address,
        run: RunSpec {
            environment,
            application: ApplicationId(1),
            path: ServicePath { application: "shop".into(), environment: "production".into(), service: "web".into() },
            revision: 1,
            image: image.clone(),
            spec: spec(plan),
            hosts: vec![None],
            values: Vec::new(),
        },
        given: Given::default(),
    })
}

/// What `scripts/bench` applies, too.
fn spec(plan: &Plan) -> ServiceSpec {
    ServiceSpec {
        service_type: ServiceType::Web,
        image: ImageSource { reference: plan.image.clone(), pull: Pull::Local },
        command: Vec::new(),
        size: Size { cpu_milli: plan.cpu_milli, memory_bytes: plan.memory_bytes, pids: 512 },
        scale: plan.count,
        ports: vec![Port { port: PORT, protocol: Protocol::Http, path: Some("/".into()), public: true, host: None }],
        health: vec![Check {
            kind: CheckKind::Http { port: PORT, path: "/healthz".into() },
            interval: Millis(10_000),
            timeout: Millis(2_000),
            grace: Millis(60_000),
            restart_after: 3,
        }],
        deploy: DEFAULT_DEPLOY,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        files: BTreeMap::new(),
        replace_after: Millis(0),
        when_cut_off: WhenCutOff::Keep,
        init: true,
        read_only: false,
        constraints: Vec::new(),
    }
}
