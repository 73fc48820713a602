//! The fields of a spec file: one table that the reader, the schema for editors and the tests share.

use super::values;
use lapstrake_core::spec::ServiceType;

const KIB: u64 = 1024;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

/// One field of a mapping.
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// One sentence for the schema.
    pub doc: &'static str,
    /// A value as people write it, other than the default.
    pub example: &'static str,
    pub required: bool,
    /// The only type of service that has it.
    pub only: Option<ServiceType>,
    /// What other tools call it.
    pub elsewhere: &'static [&'static str],
}

/// What a field may hold.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count { min: u64, max: u64 },
    /// A span of time, in milliseconds.
    Span { min: u64, max: u64 },
    /// An amount of memory, in bytes.
    Bytes { min: u64, max: u64 },
    /// Cores, in thousandths.
    Cpu { min: u64, max: u64 },
    /// One of these words.
    Choice(&'static Choice),
    /// A text that obeys a rule.
    Text(&'static values::Rule),
    /// Program and arguments.
    Words,
    /// Program and arguments, or a mapping with these fields, one of which is `command`.
    Command(&'static Object),
    /// Texts, or secrets, by the names of environment variables.
    Variables,
    /// Secrets by the paths of files.
    Files,
    /// The permission bits of a file, as a text in octal.
    Mode,
    /// A list of comparisons of nodes' labels.
    Constraints,
    /// A mapping with these fields.
    Object(&'static Object),
    /// Mappings with these fields by names that people give.
    Named(&'static Object),
    /// A list of mappings with these fields.
    List(&'static Object),
}

/// The words of a field, and those that a later version of Lapstrake will know.
pub(super) struct Choice {
    pub words: &'static [&'static str],
    pub later: &'static [&'static str],
}

/// The fields of a mapping.
pub(super) struct Object {
    /// What one of it is called.
    pub noun: &'static str,
    pub fields: &'static [Field],
    /// Fields of the design that this version does not have.
    pub later: &'static [&'static str],
}

impl Object {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

const fn field(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Field {
    Field { name, kind, doc, example, required: false, only: None, elsewhere: &[] }
}

impl Field {
    const fn required(self) -> Field {
        Field { required: true, ..self }
    }

    const fn only(self, service_type: ServiceType) -> Field {
        Field { only: Some(service_type), ..self }
    }

    const fn elsewhere(self, names: &'static [&'static str]) -> Field {
        Field { elsewhere: names, ..self }
    }
}

/// A file. Application and services are asked for by the reader, which knows better words for it.
pub(super) static FILE: Object = Object {
    noun: "spec file",
    fields: &[
        field("application", Kind::Text(&values::NAME), "shop", "The application that the services belong to.")
            .required(),
        field("services", Kind::Named(&SERVICE), "{}", "The services, each in every environment of the file.")
            .required(),
        field("environments", Kind::Named(&ENVIRONMENT), "{}", "The environments, and what is different in each."),
    ],
    later: &["components", "sites", "volumes"],
};

/// What is different in an environment.
pub(super) static ENVIRONMENT: Object = Object {
    noun: "environment",
    fields: &[field("services", Kind::Named(&SERVICE), "{}", "Fields of services that differ in this environment.")],
    later: &["kind", "policy", "quota", "sites"],
};

static TYPES: Choice = Choice {
    words: &["web", "worker"],
    later: &["code", "database", "cache", "storage", "queue", "proxy", "logging", "monitoring"],
};
static PULLS: Choice = Choice { words: &["registry", "local"], later: &[] };
static PROTOCOLS: Choice = Choice { words: &["http", "h2c", "tcp"], later: &["udp"] };
static STRATEGIES: Choice = Choice { words: &["rolling", "recreate", "blue-green", "canary"], later: &[] };
static WHEN_CUT_OFF: Choice = Choice { words: &["keep", "stop"], later: &[] };

/// A service.
pub(super) static SERVICE: Object = Object {
    noun: "service",
    fields: &[
        field("type", Kind::Choice(&TYPES), "worker", "What kind of service it is.").required(),
        field(
            "image",
            Kind::Text(&values::IMAGE),
            "registry.example.com/shop/web:1.4.2",
            "The image that its jobs run.",
        )
        .required(),
        field("pull", Kind::Choice(&PULLS), "local", "Where nodes take the image from."),
        field("command", Kind::Words, "[/app, --verbose]", "Replaces the image's command; no shell is started.")
            .elsewhere(&["cmd", "args", "entrypoint"]),
        field("size", Kind::Object(&SIZE), "{ cpu: 0.5 }", "What one job may use.").elsewhere(&["resources", "limits"]),
        // Ten for each node of a cluster of a hundred; more is a slip of the finger.
        field("scale", Kind::Count { min: 0, max: 1000 }, "3", "How many jobs.").elsewhere(&[
            "replicas",
            "instances",
            "count",
        ]),
        field(
            "constraints",
            Kind::Constraints,
            "[\"zone == a\"]",
            "What must hold of a node: a label, or `arch`, compared by `==` or `!=`.",
        )
        .elsewhere(&["constraint", "placement", "node_selector", "nodeSelector", "affinity", "nodes"]),
        field("ports", Kind::List(&PORT), "[{ port: 80 }]", "The ports that it listens on.")
            .only(ServiceType::Web)
            .elsewhere(&["expose", "listen"]),
        field("health", Kind::List(&CHECK), "[{ exec: [/app, check] }]", "Checks; all must pass.").elsewhere(&[
            "healthcheck",
            "healthchecks",
            "checks",
            "probes",
        ]),
        field("deploy", Kind::Object(&DEPLOY), "{ overlap: 30s }", "How a new revision replaces the old one.")
            .elsewhere(&["update", "rollout"]),
        field(
            "env",
            Kind::Variables,
            "{ LOG_LEVEL: info }",
            "Environment variables: texts, or `{ secret: NAME }` for what `lap secret set` has set.",
        )
        .elsewhere(&["environment", "variables", "vars"]),
        field(
            "files",
            Kind::Files,
            "{ /run/secrets/tls.key: { secret: tls-key } }",
            "Secrets that are files in memory, by their paths in the container.",
        )
        .elsewhere(&["secrets"]),
        field(
            "replace_after",
            Kind::Span { min: 0, max: 7 * 24 * HOUR },
            "5m",
            "How long after its node was lost a job is started elsewhere.",
        ),
        field(
            "when_cut_off",
            Kind::Choice(&WHEN_CUT_OFF),
            "stop",
            "What a node without its controller does with the jobs.",
        ),
        field("init", Kind::Flag, "false", "Whether a small init is process 1."),
        field("read_only", Kind::Flag, "true", "Whether the root file system is read-only."),
    ],
    later: &[
        "attach",
        "build",
        "catalog",
        "component",
        "engine",
        "redeployable",
        "schedule",
        "source",
        "targets",
        "version",
        "volume",
        "volumes",
    ],
};

/// A secret that is an environment variable.
pub(super) static SECRET_VARIABLE: Object = Object { noun: "secret of a variable", fields: &[SECRET], later: &[] };

/// A secret that is a file in memory.
pub(super) static SECRET_FILE: Object = Object {
    noun: "file",
    fields: &[
        SECRET,
        field("mode", Kind::Mode, "\"0400\"", "The permission bits, in octal and with quotes.")
            .elsewhere(&["permissions", "perms"]),
    ],
    later: &["owner", "user", "group", "text", "content"],
};

const SECRET: Field =
    field("secret", Kind::Text(&values::SECRET), "api-key", "The name that `lap secret set` has set.")
        .required()
        .elsewhere(&["name", "source", "key", "from"]);

/// What one job may use.
pub(super) static SIZE: Object = Object {
    noun: "size",
    fields: &[
        // The engine's own smallest share is a hundredth of a core.
        field("cpu", Kind::Cpu { min: 10, max: 1024 * 1000 }, "0.5", "Cores, in steps of a thousandth.")
            .elsewhere(&["cpus"]),
        // The engine starts nothing with less than 6 MiB.
        field("memory", Kind::Bytes { min: 6 * KIB * KIB, max: 64 * KIB * KIB * KIB * KIB }, "512MiB", "Memory.")
            .elsewhere(&["mem", "ram"]),
        // The least is the init and the program, the most is the kernel's own limit (2^22).
        field("pids", Kind::Count { min: 2, max: 1 << 22 }, "64", "Processes and threads.").elsewhere(&["processes"]),
    ],
    later: &["gpu", "disk"],
};

/// A port.
pub(super) static PORT: Object = Object {
    noun: "port",
    fields: &[
        field("port", Kind::Count { min: 1, max: 65535 }, "8080", "The number that the program listens on.")
            .required()
            .elsewhere(&["number", "target"]),
        field(
            "protocol",
            Kind::Choice(&PROTOCOLS),
            "http",
            "What it speaks: HTTP/1.1, HTTP/2 without TLS (as gRPC servers do), or bytes; a public port must say it.",
        ),
        field(
            "path",
            Kind::Text(&values::ROUTE_PATH),
            "/api",
            "The path prefix that leads here; a public port must say it.",
        ),
        field("public", Kind::Flag, "true", "Whether people outside reach it through the proxies."),
        field("host", Kind::Text(&values::HOST), "shop.example.com", "The host that leads here, of a public port.")
            .elsewhere(&["hostname", "domain"]),
    ],
    later: &["hosts", "organization"],
};

/// A health check.
pub(super) static CHECK: Object = Object {
    noun: "health check",
    fields: &[
        field("port", Kind::Count { min: 1, max: 65535 }, "8080", "The port that is asked; an `exec` check has none."),
        field("http", Kind::Text(&values::CHECK_PATH), "/healthz", "GET this path; 200 to 399 is healthy.")
            .elsewhere(&["path"]),
        field("tcp", Kind::Flag, "true", "Connect to the port."),
        field(
            "grpc",
            Kind::Text(&values::GRPC_SERVICE),
            "shop.Cart",
            "Ask the gRPC health service about this service; empty for all.",
        ),
        field("exec", Kind::Words, "[/app, check]", "Run this in the container; exit code 0 is healthy.")
            .elsewhere(&["command", "cmd", "test"]),
        field("interval", Kind::Span { min: 100, max: HOUR }, "30s", "The time between two questions once healthy.")
            .elsewhere(&["period"]),
        field("timeout", Kind::Span { min: 10, max: 5 * 60 * SECOND }, "5s", "How long an answer may take."),
        field(
            "grace",
            Kind::Span { min: 0, max: HOUR },
            "20s",
            "After the start, failures in this time do not restart the job.",
        )
        .elsewhere(&["start_period", "initial_delay"]),
        field("restart_after", Kind::Count { min: 1, max: 1000 }, "5", "So many failures in a row restart the job.")
            .elsewhere(&["retries", "failure_threshold"]),
    ],
    later: &[],
};

/// How a new revision replaces the old one.
pub(super) static DEPLOY: Object = Object {
    noun: "deploy policy",
    fields: &[
        field("strategy", Kind::Choice(&STRATEGIES), "rolling", "How new jobs take the place of old ones."),
        field(
            "overlap",
            Kind::Span { min: 0, max: 24 * HOUR },
            "30s",
            "How long the old job stays up after the switch.",
        ),
        field(
            "drain",
            Kind::Span { min: 0, max: 24 * HOUR },
            "1m",
            "After the overlap, how long open connections may last.",
        ),
        field("stop_grace", Kind::Span { min: 0, max: HOUR }, "30s", "The time from SIGTERM to SIGKILL.")
            .elsewhere(&["stop_grace_period"]),
        field(
            "min_healthy",
            Kind::Span { min: 0, max: HOUR },
            "5s",
            "How long a new job must be healthy before it counts as ready.",
        ),
        field(
            "timeout",
            Kind::Span { min: SECOND, max: 24 * HOUR },
            "10m",
            "How long a replacement may take until its job is ready.",
        ),
        field(
            "max_surge",
            Kind::Count { min: 0, max: 100 },
            "2",
            "Slots of a node that are replaced at once with the new job beside the old one.",
        )
        .elsewhere(&["parallelism"]),
        field(
            "max_unavailable",
            Kind::Count { min: 0, max: 100 },
            "1",
            "Slots of a node that may be without a job at once: the old one ends before the new one starts.",
        ),
        field("steps", Kind::List(&CANARY_STEP), "[{ weight: 10, hold: 5m }]", "The steps of a canary."),
        field(
            "release",
            Kind::Command(&RELEASE),
            "[/app, migrate]",
            "A command that runs once with the new revision before its jobs take any slot.",
        )
        .elsewhere(&["release_command", "pre_deploy", "predeploy", "migrate", "migration"]),
        field(
            "max_attempts",
            Kind::Count { min: 1, max: 100 },
            "5",
            "Attempts that a job gets before it was first healthy.",
        ),
    ],
    later: &[],
};

/// What runs once before a deployment touches a slot.
pub(super) static RELEASE: Object = Object {
    noun: "release command",
    fields: &[
        field("command", Kind::Words, "[/app, migrate]", "The program and its arguments. No shell is started.")
            .required()
            .elsewhere(&["exec", "run", "cmd", "args"]),
        field(
            "timeout",
            Kind::Span { min: SECOND, max: 24 * HOUR },
            "10m",
            "How long it may run; then it is stopped, and the deployment has failed.",
        ),
    ],
    later: &[],
};

/// One step of a canary.
pub(super) static CANARY_STEP: Object = Object {
    noun: "step of a canary",
    fields: &[
        field(
            "weight",
            Kind::Count { min: 1, max: 99 },
            "10",
            "Percent of the new requests, and of each node's jobs, that the new revision gets.",
        )
        .required(),
        field(
            "hold",
            Kind::Span { min: SECOND, max: 7 * 24 * HOUR },
            "5m",
            "How long the step lasts once its jobs are ready; without it, until `lap release`.",
        ),
    ],
    later: &[],
};
