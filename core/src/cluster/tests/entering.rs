use super::world::*;
use crate::access::Author;
use crate::audit::Entry;
use crate::cluster::command::*;
use crate::cluster::enter::{COMMAND_BYTES, COMMAND_WORDS, Enter, Entrance, Which};
use crate::ids::{JobId, NodeId};
use crate::message::{Exec, Way};
use crate::report::Health;
use crate::time::{Millis, Wall};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn on_two_nodes() -> World {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    world
}

fn exec(command: &[&str]) -> Way {
    Way::Exec(Exec { command: command.iter().map(|word| String::from(*word)).collect(), input: false, terminal: None })
}

fn enter(world: &mut World, which: Which, way: Way) -> Result<Entrance, Vec<Refusal>> {
    let command = Command::Enter(Enter { service: path(WEB), which, way });
    match world.run(command)?.answer {
        Answer::Entrance(entrance) => Ok(entrance),
        other => panic!("{other:?}"),
    }
}

fn refused(world: &mut World, which: Which, way: Way) -> (RefusalKind, String) {
    let refusals = enter(world, which, way).expect_err("refused");
    let hint = refusals[0].hint.clone().unwrap_or_default();
    (refusals[0].kind, alloc::format!("{} ({hint})", refusals[0].sentence))
}

/// The job that carries a slot.
fn job(world: &World, number: u32) -> JobId {
    let service = world.service(WEB).id;
    world.cluster.slots_of(service).find(|slot| slot.id.number == number).unwrap().job.unwrap().job
}

#[test]
fn the_first_healthy_job_is_entered_unless_another_one_is_named() {
    let mut world = on_two_nodes();
    let (first, second) = (job(&world, 1), job(&world, 2));
    let entrance = enter(&mut world, Which::First, exec(&["sh"])).unwrap();
    assert_eq!((entrance.job, entrance.slot.as_str(), entrance.running), (first, "web.1", 2));
    assert_eq!(enter(&mut world, Which::Slot(2), exec(&["sh"])).unwrap().job, second);
    assert_eq!(enter(&mut world, Which::Job(second), exec(&["sh"])).unwrap().slot, "web.2");
    let node = entrance.node;
    for report in world.agents.get_mut(&node).unwrap().jobs.values_mut() {
        report.health = Health::Unhealthy;
    }
    world.report(node);
    world.settle();
    assert_eq!(enter(&mut world, Which::First, exec(&["sh"])).unwrap().job, second, "the healthy one");
    assert_eq!(enter(&mut world, Which::Slot(1), exec(&["sh"])).unwrap().job, first, "to see what ails it");
}

#[test]
fn where_there_is_nothing_to_enter_it_is_said_why() {
    let mut world = on_two_nodes();
    assert_eq!(
        refused(&mut world, Which::Slot(9), exec(&["sh"])),
        (RefusalKind::NotFound, "shop/production/web has no slot 9 (it has 1, 2)".into())
    );
    let (kind, said) = refused(&mut world, Which::Job(JobId(9)), exec(&["sh"]));
    assert!(
        kind == RefusalKind::NotFound && said.contains("`lap ps shop/production/web -o json` names them"),
        "{said}"
    );
    let other = enter(&mut world, Which::Slot(2), exec(&["sh"])).unwrap().node;
    world.cut(other.0);
    let (kind, said) = refused(&mut world, Which::Slot(2), exec(&["sh"]));
    assert!(kind == RefusalKind::Conflict && said.contains("which cannot be reached now"), "{said}");
    assert_ne!(enter(&mut world, Which::First, exec(&["sh"])).unwrap().node, other, "the other node's is entered");
    for node in world.agents.keys().copied().collect::<Vec<NodeId>>() {
        world.cut(node.0);
    }
    world.wait(Millis::secs(1));
    assert_eq!(refused(&mut world, Which::First, exec(&["sh"])).0, RefusalKind::Conflict);
    world.run(Command::RemoveService { service: path(WEB) }).unwrap();
    let absent = Enter { service: path("shop/production/absent"), which: Which::First, way: exec(&["sh"]) };
    let refusals = world.run(Command::Enter(absent)).expect_err("refused");
    assert_eq!(refusals[0].kind, RefusalKind::NotFound);
}

#[test]
fn only_ports_that_the_jobs_revision_declares_are_led_to() {
    let mut world = on_two_nodes();
    assert!(enter(&mut world, Which::First, Way::Forward { port: 8080 }).is_ok());
    assert_eq!(
        refused(&mut world, Which::First, Way::Forward { port: 22 }),
        (RefusalKind::Conflict, "shop/production/web has no port 22 (its spec declares 8080)".into())
    );
    let mut portless = web("hello:1", 2);
    portless.ports.clear();
    world.apply("production", &[("web", portless)]);
    world.settle();
    let said = refused(&mut world, Which::First, Way::Forward { port: 8080 }).1;
    assert!(said.ends_with("(its spec declares none)"), "{said}");
}

#[test]
fn all_that_is_wrong_with_a_command_is_said_at_once() {
    let mut world = on_two_nodes();
    let long = "x".repeat(COMMAND_BYTES + 1);
    let mut words = vec!["", &long, "a\0b"];
    words.resize(COMMAND_WORDS + 1, "x");
    let refusals = enter(&mut world, Which::First, exec(&words)).expect_err("refused");
    assert_eq!(refusals.len(), 4, "{refusals:#?}");
    assert!(refusals.iter().all(|refusal| refusal.kind == RefusalKind::Invalid));
    assert_eq!(refused(&mut world, Which::First, exec(&[])).0, RefusalKind::Invalid);
}

#[test]
fn the_audit_has_the_command_word_for_word_and_nothing_that_acts() {
    let deed = |way| Command::Enter(Enter { service: path(WEB), which: Which::First, way }).deed();
    let told = deed(exec(&["sh", "-c", "echo \"$A\"\u{1b}[2J\\", ""]));
    assert_eq!((told.verb.as_str(), told.subject.as_str()), ("exec", WEB));
    assert_eq!(told.detail, r#"sh -c "echo \"$A\"\u{1b}[2J\\" """#);
    assert_eq!(deed(Way::Forward { port: 5432 }).detail, "port 5432");
}

#[test]
fn no_part_of_a_command_that_is_run_is_hidden_from_the_audit() {
    let mut world = on_two_nodes();
    let harmless = "x".repeat(400);
    let script = alloc::format!("echo {harmless}; rm -r /data");
    let command = Command::Enter(Enter { service: path(WEB), which: Which::First, way: exec(&["sh", "-c", &script]) });
    assert!(command.deed().detail.ends_with("; rm -r /data\""), "{}", command.deed().detail);
    let author = Author::Controller;
    let outcome = world.run(command.clone());
    let row = Entry::of_command(&author, command.deed(), &outcome, Wall(1));
    assert!(row.deed.detail.starts_with("web.1, job ") && row.deed.detail.ends_with("rm -r /data\""), "{row:?}");
    // The longest of plain characters fits.
    let long = "x".repeat(COMMAND_BYTES - 2);
    let command = Command::Enter(Enter { service: path(WEB), which: Which::First, way: exec(&["sh", &long]) });
    assert!(command.deed().detail.ends_with('x'));
    world.run(command).unwrap();
    // What is written longer than the audit takes is not run.
    let escapes = "\u{1b}".repeat(6000);
    let (kind, said) = refused(&mut world, Which::First, exec(&["sh", "-c", &escapes, "rm"]));
    assert!(kind == RefusalKind::Invalid && said.contains("as the audit writes it; 24576 are allowed"), "{said}");
}
