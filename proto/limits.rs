//! How much of everything the wire carries, with the reasons.
//!
//! A receiver refuses what is over a limit; so nothing from outside decides how much memory it takes. Texts that people
//! only read are made to fit by the sender instead (`convert`), because a long answer of Docker must not end a session.

/// The largest message that an agent decodes. An assignment set carries the specs and variables of all of a node's
/// jobs: 1000 jobs with 16 KiB each. gRPC's own default is 4 MiB.
pub const AGENT_DECODES_BYTES: usize = 16 << 20;

/// The largest message that the controller decodes; it has thousands of agents. A report of 600 jobs that all fail with
/// the longest words fits, and one of 20,000 healthy ones.
pub const CONTROLLER_DECODES_BYTES: usize = 4 << 20;

/// The largest message that is decoded from a connection without a client certificate: a certificate request is 2 KiB.
pub const ENROLMENT_DECODES_BYTES: usize = 64 << 10;

/// The text in one `LogLines`. Small enough that a slow reader holds little, large enough that framing costs nothing.
pub const LOG_CHUNK_BYTES: usize = 256 << 10;

/// One line of output; the engine cuts longer ones into pieces of this size itself.
pub const LOG_LINE_BYTES: usize = 16 << 10;

/// Lines in one `LogLines`: empty ones have no text to count, but take memory.
pub const LOG_LINES: usize = 16 << 10;

/// One piece of a stream to or from a job: what a pipe of the kernel and Docker's own copying hold at once.
pub const TUNNEL_PIECE_BYTES: usize = 32 << 10;

/// Streams to jobs that a controller lets a node have at once.
pub const TUNNELS: usize = 64;

/// A regular expression that picks lines.
pub const PATTERN_BYTES: usize = 1 << 10;

/// Assignments to a node, and jobs and replacements in its report. A bridge of the kernel has 1023 ports, and the
/// largest nodes run a few hundred jobs.
pub const JOBS: usize = 16 << 10;

/// The number of an assignment set. A thousand sets a second do not come so far in the age of the earth; whoever says more
/// wants the next number to be none.
pub const GENERATION: u64 = 1 << 62;

/// A name of an application, environment, service or target: each is a label of a DNS name.
pub const NAME_BYTES: usize = 63;

/// A host, or a node's name, which may be one: the longest DNS name.
pub const HOST_BYTES: usize = 253;

/// An image reference: a host, 255 of a repository's name, 128 of a tag and 71 of a digest, with room to spare.
pub const REFERENCE_BYTES: usize = 1024;

/// A path of a URL; HTTP servers take about as much.
pub const URL_PATH_BYTES: usize = 4096;

/// A version or an architecture.
pub const WORD_BYTES: usize = 64;

/// One argument or variable of a process: `MAX_ARG_STRLEN` of the kernel.
pub const ARGUMENT_BYTES: usize = 128 << 10;

/// Arguments of a command, and variables of a service.
pub const ARGUMENTS: usize = 4096;

/// The name of a variable. Shells and languages have no limit; people do.
pub const VARIABLE_BYTES: usize = 256;

/// A path of a file in a container: `PATH_MAX` of the kernel, with its end.
pub const FILE_PATH_BYTES: usize = 4095;

/// Values that one job gets.
pub const BINDINGS: usize = 1024;

/// Values that one set gives. What they come to in bytes is limited by the message's size.
pub const VALUES: usize = 16 << 10;

/// Ports of a service, and its checks.
pub const PORTS: usize = 256;

/// Images that a set keeps besides those of its assignments; what they come to in bytes the sender limits.
pub const KEPT_IMAGES: usize = 64 << 10;

/// A sentence for people. Longer ones are cut, with `…`.
pub const SENTENCE_BYTES: usize = 1024;

/// Last lines in a failure; the oldest ones are left out.
pub const LAST_LINES: usize = 10;

/// One last line in a failure. Longer ones are cut, with `…`.
pub const LAST_LINE_BYTES: usize = 512;

/// Troubles of a node; the rest are left out.
pub const TROUBLES: usize = 32;

/// Phases that one replacement reached: it has ten.
pub const PHASES: usize = 10;

/// Services that run elsewhere, and nodes that run one of them.
pub const ELSEWHERE: usize = 16 << 10;

/// A certificate request, a certificate with its chain, or a trust bundle, in PEM: about 2 KiB for each certificate.
pub const PEM_BYTES: usize = 32 << 10;

/// Roots that an agent trusts: two while one takes the other's place, with room to spare.
pub const ROOTS: usize = 16;

/// An ECDSA signature on P-256 in ASN.1 takes at most 72 bytes.
pub const PROOF_BYTES: usize = 128;
