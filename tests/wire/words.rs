//! Everything that the two sides can say, at random and within the limits.

use lapstrake::convert::{
    Enrolled, Enrolment, FromJob, LogLine, LogSource, LogsEnd, LogsEndReason, LogsWord, Renewal, Renewed, ReturnAnswer,
    ReturnWish, SignalKind, ToJob, TunnelEnd, TunnelEndReason,
};
use lapstrake_core::assignment::{
    Assignment, AssignmentSet, BoundImage, Generation, KeptImages, Once, RunSpec, ServicePath, Traffic,
};
use lapstrake_core::ids::{
    ApplicationId, BootId, ClusterId, DeploymentId, EnvironmentId, EpochId, JobId, NodeId, RequestId, ServiceId,
    SessionId, SlotId, TokenId, ValueId,
};
use lapstrake_core::message::{
    AgentWord, ControllerWord, Credentials, Elsewhere, Exec, Hello, LogRange, ResolvedImage, TerminalSize, Way as Entry,
};
use lapstrake_core::report::{
    Capacity, Failure, FullDisk, Health, JobPhase, JobReport, NodeReport, ReplacementPhase, ReplacementReport,
    StrayReport, Use,
};
use lapstrake_core::root::RootId;
use lapstrake_core::spec::{
    Check, CheckKind, DeployPolicy, ImageSource, Port, Protocol, Pull, ServiceSpec, ServiceType, Size, Strategy as Way,
    WhenCutOff,
};
use lapstrake_core::time::{Millis, Wall};
use lapstrake_core::values::{Binding, Body, Clear, GivenValue, Place};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,62}"
}

fn host() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,3}"
}

fn path() -> impl Strategy<Value = String> {
    "/[a-z0-9/%]{0,30}"
}

fn reference() -> impl Strategy<Value = String> {
    "[a-z0-9./:@-]{1,80}"
}

/// What acts on a terminal is replaced on the way, which is not what these tests are about.
fn sentence() -> impl Strategy<Value = String> {
    "\\PC{0,100}".prop_map(|text| text.replace(lapstrake_core::quote::is_acting, ""))
}

fn argument() -> impl Strategy<Value = String> {
    "[^\\x00]{0,40}"
}

fn pem() -> impl Strategy<Value = String> {
    "-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/]{64}\n){1,4}-----END CERTIFICATE-----\n"
}

fn millis() -> impl Strategy<Value = Millis> {
    any::<u64>().prop_map(Millis)
}

fn wall() -> impl Strategy<Value = Wall> {
    any::<u64>().prop_map(Wall)
}

fn image() -> impl Strategy<Value = ImageSource> {
    let pull = prop_oneof![Just(Pull::Registry), Just(Pull::Local)];
    (reference(), pull).prop_map(|(reference, pull)| ImageSource { reference, pull })
}

fn size() -> impl Strategy<Value = Size> {
    any::<(u32, u64, u32)>().prop_map(|(cpu_milli, memory_bytes, pids)| Size { cpu_milli, memory_bytes, pids })
}

fn port() -> impl Strategy<Value = Port> {
    let protocol = prop_oneof![Just(Protocol::Http), Just(Protocol::Tcp), Just(Protocol::H2c)];
    (1..=u16::MAX, protocol, of(path()), any::<bool>(), of(host()))
        .prop_map(|(port, protocol, path, public, host)| Port { port, protocol, path, public, host })
}

fn check() -> impl Strategy<Value = Check> {
    let kind = prop_oneof![
        (1..=u16::MAX, path()).prop_map(|(port, path)| CheckKind::Http { port, path }),
        (1..=u16::MAX).prop_map(|port| CheckKind::Tcp { port }),
        (1..=u16::MAX, "[a-z.]{0,20}").prop_map(|(port, service)| CheckKind::Grpc { port, service }),
        vec(argument(), 1..4).prop_map(|command| CheckKind::Exec { command }),
    ];
    (kind, millis(), millis(), millis(), 1..=u32::MAX).prop_map(|(kind, interval, timeout, grace, restart_after)| {
        Check { kind, interval, timeout, grace, restart_after }
    })
}

fn deploy() -> impl Strategy<Value = DeployPolicy> {
    let numbers = (0..=u32::MAX, 0..=u32::MAX, 1..=u32::MAX, 0..Way::ALL.len());
    let numbers = numbers.prop_filter("nothing could be replaced", |(surge, unavailable, _, strategy)| {
        *surge > 0 || *unavailable > 0 || Way::ALL[*strategy] == Way::Recreate
    });
    (any::<[u64; 5]>(), numbers).prop_map(|(times, numbers)| {
        let [overlap, drain, stop_grace, min_healthy, timeout] = times.map(Millis);
        let (max_surge, max_unavailable, max_attempts, strategy) = numbers;
        let (strategy, steps) = (Way::ALL[strategy], Vec::new());
        DeployPolicy {
            strategy,
            overlap,
            drain,
            stop_grace,
            min_healthy,
            timeout,
            max_surge,
            max_unavailable,
            steps,
            max_attempts,
            release: None,
        }
    })
}

fn spec() -> impl Strategy<Value = ServiceSpec> {
    let service_type = prop_oneof![Just(ServiceType::Web), Just(ServiceType::Worker)];
    let when_cut_off = prop_oneof![Just(WhenCutOff::Keep), Just(WhenCutOff::Stop)];
    let env = btree_map("[A-Za-z_][A-Z0-9_]{0,20}", argument(), 0..4);
    let lists = (vec(argument(), 0..3), vec(port(), 0..3), vec(check(), 0..3));
    let numbers = (any::<u32>(), millis(), any::<bool>(), any::<bool>());
    (service_type, image(), lists, size(), deploy(), env, when_cut_off, numbers).prop_map(
        |(service_type, image, (command, ports, health), size, deploy, env, when_cut_off, numbers)| {
            let (scale, replace_after, init, read_only) = numbers;
            ServiceSpec {
                service_type,
                image,
                command,
                size,
                scale,
                ports,
                health,
                deploy,
                env,
                secrets: BTreeMap::new(),
                files: BTreeMap::new(),
                replace_after,
                when_cut_off,
                init,
                read_only,
                constraints: Vec::new(),
            }
        },
    )
}

fn service_path() -> impl Strategy<Value = ServicePath> {
    (name(), name(), name()).prop_map(|(application, environment, service)| ServicePath {
        application,
        environment,
        service,
    })
}

fn run() -> impl Strategy<Value = RunSpec> {
    let image = (reference(), reference(), any::<bool>()).prop_map(|(reference, bound, registry)| match registry {
        true => BoundImage::Digest { reference, pinned: bound },
        false => BoundImage::Id { reference, id: bound },
    });
    let hosts = vec(of(host()), 3);
    (any::<[u128; 2]>(), service_path(), any::<u32>(), image, spec(), hosts, bindings()).prop_map(
        |([environment, application], path, revision, image, spec, mut hosts, values)| {
            hosts.truncate(spec.ports.len());
            RunSpec {
                environment: EnvironmentId(environment),
                application: ApplicationId(application),
                path,
                revision,
                image,
                spec,
                hosts,
                values,
            }
        },
    )
}

fn bindings() -> impl Strategy<Value = Vec<Binding>> {
    let file = ("(/[a-z.]{0,3}[a-z]){1,3}", 0..=0o777u32).prop_map(|(path, mode)| Place::File { path, mode });
    let place = prop_oneof!["[A-Z_]{1,20}".prop_map(Place::Variable), file, Just(Place::Registry)];
    btree_map(place, any::<u128>(), 0..4)
        .prop_map(|places| places.into_iter().map(|(place, value)| Binding { place, value: ValueId(value) }).collect())
}

fn given_value() -> impl Strategy<Value = GivenValue> {
    let body = prop_oneof![
        vec(any::<u8>(), 0..80).prop_map(|bytes| Body::Clear(Clear(bytes))),
        sentence().prop_map(|said| Body::Unreadable { said }),
    ];
    (sentence(), body).prop_map(|(called, body)| GivenValue { called, body })
}

fn slot() -> impl Strategy<Value = SlotId> {
    (any::<u128>(), name(), 1..=u32::MAX).prop_map(|(service, target, number)| SlotId {
        service: ServiceId(service),
        target,
        number,
    })
}

fn generation() -> impl Strategy<Value = Generation> {
    let number = 0..=lapstrake::limits::GENERATION;
    (any::<u128>(), number).prop_map(|(epoch, number)| Generation { epoch: EpochId(epoch), number })
}

pub fn assignment_set() -> impl Strategy<Value = AssignmentSet> {
    let traffic = prop_oneof![Just(Traffic::Full), Just(Traffic::Held), (1..=99u32).prop_map(Traffic::Share)];
    let once = (millis(), millis(), any::<bool>());
    let once = of(once.prop_map(|(timeout, start_timeout, stop)| Once { timeout, start_timeout, stop }));
    let places = btree_map(slot(), (any::<[u128; 2]>(), run(), traffic, once), 0..4);
    let values = btree_map(any::<u128>().prop_map(ValueId), given_value(), 0..4);
    let kept = (btree_set(reference(), 0..4), btree_set(reference(), 0..4));
    let kept = of(kept.prop_map(|(all, firm)| KeptImages { all, firm }));
    (generation(), any::<bool>(), places, values, kept).prop_map(
        |(generation, stop_absent, places, values, kept_images)| {
            let assignments = places.into_iter().map(|(slot, ([job, deployment], run, traffic, once))| Assignment {
                slot,
                job: JobId(job),
                deployment: DeploymentId(deployment),
                run,
                traffic,
                once,
            });
            AssignmentSet { generation, stop_absent, assignments: assignments.collect(), values, kept_images }
        },
    )
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        (sentence(), sentence()).prop_map(|(image, said)| Failure::CannotPull { image, said }),
        sentence().prop_map(|said| Failure::CannotStart { said }),
        (any::<i64>(), millis(), vec(sentence(), 0..4)).prop_map(|(code, after, last_lines)| Failure::Exited {
            code,
            after,
            last_lines
        }),
        (any::<u64>(), millis()).prop_map(|(limit_bytes, after)| Failure::OutOfMemory { limit_bytes, after }),
        (sentence(), sentence(), any::<u32>()).prop_map(|(check, answered, times)| Failure::CheckFailed {
            check,
            answered,
            times
        }),
        (millis(), of(sentence())).prop_map(|(timeout, answered)| Failure::NotReadyInTime { timeout, answered }),
        sentence().prop_map(|short| Failure::NoRoom { short }),
        millis().prop_map(|timeout| Failure::NotReleased { timeout }),
        Just(Failure::Superseded),
        (millis(), vec(sentence(), 0..4)).prop_map(|(timeout, last_lines)| Failure::TimedOut { timeout, last_lines }),
    ]
}

fn job_phase() -> impl Strategy<Value = JobPhase> {
    use JobPhase::*;
    proptest::sample::select(vec![
        Assigned, Pulling, Creating, Starting, Running, Stopping, Stopped, Succeeded, Failed, Rejected,
    ])
}

fn health() -> impl Strategy<Value = Health> {
    proptest::sample::select(vec![Health::Unknown, Health::Starting, Health::Healthy, Health::Unhealthy])
}

fn replacement_phase() -> impl Strategy<Value = ReplacementPhase> {
    use ReplacementPhase::*;
    proptest::sample::select(vec![
        Accepted,
        Pulling,
        Starting,
        Ready,
        Switched,
        Overlapping,
        Draining,
        Done,
        Abandoned,
        SwitchedBack,
    ])
}

fn job_report(job: u128) -> impl Strategy<Value = JobReport> {
    let readings = (job_phase(), health(), of(failure()), of(any::<IpAddr>()));
    (slot(), readings, any::<(u32, u64, u32)>(), of(sentence())).prop_map(
        move |(slot, (phase, health, failure, address), (attempt, memory_bytes, cpu_milli), waits_for)| JobReport {
            job: JobId(job),
            slot,
            attempt,
            phase,
            health,
            failure,
            address,
            memory_bytes,
            cpu_milli,
            waits_for,
        },
    )
}

fn replacement_report() -> impl Strategy<Value = ReplacementReport> {
    let reached = vec((replacement_phase(), wall()), 0..10);
    let jobs = (of(any::<u128>()), of(any::<u128>()));
    let answers = (of(wall()), of(sentence()));
    (slot(), any::<u128>(), jobs, replacement_phase(), reached, of(wall()), of(failure()), of(sentence()), answers)
        .prop_map(|(slot, deployment, (old, new), phase, reached, stopped_at, failure, waits_for, answers)| {
            ReplacementReport {
                slot,
                deployment: DeploymentId(deployment),
                old: old.map(JobId),
                new: new.map(JobId),
                phase,
                reached,
                stopped_at,
                good_at: answers.0,
                bad_answer: answers.1,
                failure,
                waits_for,
            }
        })
}

pub fn node_report() -> impl Strategy<Value = NodeReport> {
    let jobs = proptest::collection::btree_set(any::<u128>(), 0..4)
        .prop_flat_map(|jobs| jobs.into_iter().map(job_report).collect::<Vec<_>>());
    let capacity = any::<(u32, u64)>().prop_map(|(cpu_milli, memory_bytes)| Capacity { cpu_milli, memory_bytes });
    let full_disk = (sentence(), 0..=100u32).prop_map(|(folder, mark_percent)| FullDisk { folder, mark_percent });
    let strays = btree_map(any::<u128>(), slot(), 0..4).prop_map(|strays| {
        strays.into_iter().map(|(job, slot)| StrayReport { job: JobId(job), slot }).collect::<Vec<_>>()
    });
    let lists = (jobs, vec(replacement_report(), 0..3), vec(sentence(), 0..3), strays);
    (of(generation()), lists, capacity, of(full_disk), any::<bool>()).prop_map(
        |(generation, (jobs, replacements, troubles, strays), capacity, full_disk, strays_unclear)| NodeReport {
            generation,
            jobs,
            replacements,
            capacity,
            troubles,
            full_disk,
            strays,
            strays_unclear,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<[u128; 3]>(), "[0-9.]{1,10}", "[a-z0-9]{1,10}", wall(), node_report()).prop_map(
        |([cluster, node, boot], version, architecture, wall, report)| Hello {
            cluster: ClusterId(cluster),
            node: NodeId(node),
            boot: BootId(boot),
            version,
            architecture,
            wall,
            report,
        },
    )
}

fn used() -> impl Strategy<Value = Use> {
    any::<(u32, [u64; 3])>().prop_map(|(cpu_milli, [memory_bytes, disk_used_bytes, disk_total_bytes])| Use {
        cpu_milli,
        memory_bytes,
        disk_used_bytes,
        disk_total_bytes,
    })
}

pub fn agent_word() -> impl Strategy<Value = AgentWord> {
    let resolved = reference().prop_map(|pinned| ResolvedImage { pinned });
    let outcome = prop_oneof![resolved.prop_map(Ok), sentence().prop_map(Err)];
    prop_oneof![
        hello().prop_map(AgentWord::Hello),
        (any::<u64>(), used()).prop_map(|(number, used)| AgentWord::Heartbeat { number, used }),
        node_report().prop_map(AgentWord::Report),
        (vec(root(), 0..3), of(root()))
            .prop_map(|(roots, issuer)| AgentWord::Credentials(Credentials { roots, issuer })),
        (any::<u128>(), outcome)
            .prop_map(|(request, outcome)| AgentWord::ImageResolved { request: RequestId(request), outcome }),
    ]
}

fn root() -> impl Strategy<Value = RootId> {
    any::<[u8; 32]>().prop_map(RootId)
}

fn elsewhere() -> impl Strategy<Value = Elsewhere> {
    (any::<u128>(), service_path(), vec((host(), path()), 0..3), vec(host(), 0..3), any::<bool>()).prop_map(
        |(service, path, routes, nodes, paused)| Elsewhere { service: ServiceId(service), path, routes, nodes, paused },
    )
}

pub fn controller_word() -> impl Strategy<Value = ControllerWord> {
    let welcome = (any::<[u128; 2]>(), millis(), (1..u64::MAX).prop_map(Millis), pem()).prop_map(
        |([session, epoch], lease, heartbeat, trust)| ControllerWord::Welcome {
            session: SessionId(session),
            epoch: EpochId(epoch),
            lease,
            heartbeat,
            trust,
        },
    );
    let send_logs =
        (any::<([u128; 2], Option<u32>, bool)>(), of(wall()), of("\\PC{0,20}")).prop_map(|(wish, since, grep)| {
            let ([request, job], tail, follow) = wish;
            let range = LogRange { tail, since, follow };
            ControllerWord::SendLogs { request: RequestId(request), job: JobId(job), range, grep }
        });
    let open_tunnel = (any::<[u128; 2]>(), entry()).prop_map(|([request, job], way)| ControllerWord::OpenTunnel {
        request: RequestId(request),
        job: JobId(job),
        way,
    });
    prop_oneof![
        welcome,
        (pem(), root()).prop_map(|(trust, issuer)| ControllerWord::Trust { trust, issuer }),
        any::<u64>().prop_map(|number| ControllerWord::HeartbeatAnswer { number }),
        assignment_set().prop_map(ControllerWord::Assignments),
        vec(elsewhere(), 0..3).prop_map(ControllerWord::Elsewhere),
        (any::<u128>(), image(), of((any::<u128>().prop_map(ValueId), given_value()))).prop_map(
            |(request, image, login)| ControllerWord::ResolveImage { request: RequestId(request), image, login }
        ),
        send_logs,
        open_tunnel,
        any::<u128>().prop_map(|request| ControllerWord::CloseTunnel { request: RequestId(request) }),
    ]
}

pub fn logs_word() -> impl Strategy<Value = LogsWord> {
    let source = prop_oneof![Just(LogSource::Stdout), Just(LogSource::Stderr)];
    let line = (source, wall(), vec(any::<u8>(), 0..80)).prop_map(|(source, at, text)| LogLine { source, at, text });
    let reason =
        proptest::sample::select(vec![LogsEndReason::Complete, LogsEndReason::UnknownJob, LogsEndReason::CannotRead]);
    prop_oneof![
        any::<[u128; 2]>()
            .prop_map(|[request, job]| LogsWord::Opening { request: RequestId(request), job: JobId(job) }),
        vec(line, 0..5).prop_map(LogsWord::Lines),
        (reason, sentence()).prop_map(|(reason, said)| LogsWord::End(LogsEnd { reason, said })),
    ]
}

fn terminal_size() -> impl Strategy<Value = TerminalSize> {
    any::<(u16, u16)>().prop_map(|(columns, rows)| TerminalSize { columns, rows })
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (1..=u16::MAX).prop_map(|port| Entry::Forward { port }),
        (vec(argument(), 1..4), any::<bool>(), of(terminal_size()))
            .prop_map(|(command, input, terminal)| Entry::Exec(Exec { command, input, terminal })),
    ]
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..80)
}

pub fn from_job() -> impl Strategy<Value = FromJob> {
    use TunnelEndReason::*;
    let source = prop_oneof![Just(LogSource::Stdout), Just(LogSource::Stderr)];
    let reason = proptest::sample::select(vec![Exited, NotStarted, Closed, UnknownJob, Failed]);
    prop_oneof![
        any::<[u128; 2]>().prop_map(|[request, job]| FromJob::Opening { request: RequestId(request), job: JobId(job) }),
        Just(FromJob::Started),
        (source, piece()).prop_map(|(source, piece)| FromJob::Output { source, piece }),
        Just(FromJob::OutputEnd),
        (reason, any::<i64>(), sentence()).prop_map(|(reason, code, said)| FromJob::End(TunnelEnd {
            reason,
            code,
            said
        })),
    ]
}

pub fn to_job() -> impl Strategy<Value = ToJob> {
    let kind = prop_oneof![Just(SignalKind::Interrupt), Just(SignalKind::Terminate)];
    prop_oneof![
        piece().prop_map(ToJob::Input),
        Just(ToJob::InputEnd),
        terminal_size().prop_map(ToJob::Resize),
        kind.prop_map(ToJob::Signal),
    ]
}

pub fn enrolment() -> impl Strategy<Value = Enrolment> {
    (any::<u128>(), any::<[u8; 32]>(), pem(), of(host()), host(), "[0-9.]{1,10}", "[a-z0-9]{1,10}").prop_map(
        |(token, secret, certificate_request, node_name, hostname, version, architecture)| Enrolment {
            token: TokenId(token),
            secret,
            certificate_request,
            node_name,
            hostname,
            version,
            architecture,
        },
    )
}

pub fn enrolled() -> impl Strategy<Value = Enrolled> {
    (any::<[u128; 2]>(), host(), pem(), pem()).prop_map(|([cluster, node], node_name, certificate, trust)| Enrolled {
        cluster: ClusterId(cluster),
        node: NodeId(node),
        node_name,
        certificate,
        trust,
    })
}

pub fn renewal() -> impl Strategy<Value = Renewal> {
    pem().prop_map(|certificate_request| Renewal { certificate_request })
}

pub fn renewed() -> impl Strategy<Value = Renewed> {
    (pem(), pem()).prop_map(|(certificate, trust)| Renewed { certificate, trust })
}

pub fn return_wish() -> impl Strategy<Value = ReturnWish> {
    (pem(), vec(any::<u8>(), 0..=128)).prop_map(|(certificate, proof)| ReturnWish { certificate, proof })
}

pub fn return_answer() -> impl Strategy<Value = ReturnAnswer> {
    prop_oneof![renewed().prop_map(ReturnAnswer::Readmitted), sentence().prop_map(ReturnAnswer::Waits)]
}
