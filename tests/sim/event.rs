//! What can happen in the world.

use crate::faults::Fault;
use crate::people::Ticket;
use crate::runtime::Cause;
use lapstrake_core::ids::{BootId, JobId, RequestId, SessionId};
use lapstrake_core::message::AgentWord;
use lapstrake_core::node::action::Action;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::routes::RouteTable;
use lapstrake_core::spec::ImageSource;

/// A machine's place in the world.
pub type MachineNumber = usize;
/// A process is never the same as one before it.
pub type ProcessNumber = u64;
/// A connection between an agent and the controller.
pub type StreamNumber = u64;

/// Where an event of an agent's own belongs: what comes for an agent that has died meanwhile is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// The machine.
    pub machine: MachineNumber,
    /// The agent's process.
    pub process: ProcessNumber,
}

/// What an action's call came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// It was done.
    Done,
    /// There was nothing to do: the engine had the image.
    Held,
    /// The engine said no.
    Refused,
    /// The image is not there any more.
    NoImage,
    /// Nobody answered, or the disk is full.
    Unreachable,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// The controller's process begins.
    ControllerStarts,
    /// The controller's loop goes round.
    ControllerTurn(ProcessNumber),
    /// A person does something.
    PersonActs,
    /// A command reaches the controller.
    CommandArrives(Ticket),
    /// A person does not wait for an answer any longer.
    PatienceEnds(Ticket),

    /// The next word on a stream arrives: at the controller if `up`.
    Deliver { stream: StreamNumber, up: bool },
    /// One side of a stream notices that the other has ended.
    StreamEnds { stream: StreamNumber, at_controller: bool },
    /// The controller's side looks whether a stream is silent.
    StreamIdle(StreamNumber),
    /// A word of a session that has ended arrives all the same.
    LateWord { session: SessionId, machine: MachineNumber, word: Box<AgentWord> },
    /// A set of a session that has ended reaches the agent all the same.
    LateSet(Home, Box<lapstrake_core::assignment::AssignmentSet>),

    /// An agent's process begins.
    AgentStarts(MachineNumber),
    /// An agent's loop goes round.
    AgentTurn(Home),
    /// An agent dials the controller.
    AgentDials(Home),
    /// An agent's heartbeat is due.
    HeartbeatDue(Home, StreamNumber),
    /// An image's meaning was found out, or not.
    Resolved { home: Home, stream: StreamNumber, request: RequestId, image: ImageSource },
    /// An action's call reaches what it is for.
    ActionReaches { home: Home, boot: BootId, action: Box<Action>, table: Option<Box<RouteTable>> },
    /// The second half of a run: the made container is started.
    StartReaches { home: Home, boot: BootId, action: Box<Action> },
    /// An action's call returns.
    ActionReturns { home: Home, action: Box<Action>, returned: Returned },
    /// The engine tells of a change of a container.
    Hint(Home, Attempt),
    /// The agent asks the engine for everything.
    List(Home),
    /// A check is asked.
    Probe { home: Home, attempt: Attempt, index: usize },

    /// A process ends.
    Exits { machine: MachineNumber, attempt: Attempt, life: u64, code: i64, out_of_memory: bool, cause: Cause },

    /// A new proxy, which listens for the agent already, reads the table file and serves.
    ProxyReads { machine: MachineNumber, pid: u32 },
    /// The agent looks into the folder of the proxies.
    ProxyScan(Home),
    /// The agent is connected to a proxy.
    ProxyConnects(Home, u32),
    /// A proxy gets a table.
    ProxyTakes { home: Home, pid: u32, table: Box<RouteTable> },
    /// The agent hears a proxy's report.
    ProxyReports { home: Home, pid: u32, generation: u64, leaving: Vec<(JobId, u32)> },
    /// The agent notices that a proxy has died.
    ProxyGone(Home, u32),
    /// Somebody asks a machine's proxies for something.
    Request(MachineNumber),
    /// An open connection ends.
    ConnectionEnds { machine: MachineNumber, pid: u32, job: JobId, life: u64 },

    /// Something breaks.
    Breaks(Fault),
    /// Something works again.
    Heals(Fault),
    /// From now on nothing breaks any more.
    Calm,
    /// Whether everything is as it shall be.
    Settled,
}
