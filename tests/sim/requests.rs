//! People who use what runs: every request goes where a proxy's table sends it, and must be served there.

use crate::event::{Event, MachineNumber};
use crate::world::World;
use lapstrake_core::ids::JobId;

impl World {
    /// A request reaches a machine.
    pub fn request(&mut self, number: MachineNumber) {
        let pause = self.rng.between(100, 700);
        self.queue.push(self.at + pause, Event::Request(number));
        let (a, b, c) = (self.rng.next(), self.rng.next(), self.rng.next());
        let machine = &self.machines[number];
        let serving: Vec<_> = machine.proxies.iter().filter(|(_, proxy)| proxy.serves).collect();
        let Some((pid, proxy)) = pick(&serving, a).copied() else { return };
        let routes: Vec<_> =
            proxy.table.iter().flat_map(|table| &table.routes).filter(|route| !route.backends.is_empty()).collect();
        let Some(route) = pick(&routes, b) else { return };
        let Some(backend) = pick(&route.backends, c) else { return };
        self.send_to(number, *pid, backend.job);
    }

    fn send_to(&mut self, number: MachineNumber, pid: u32, job: JobId) {
        let at = self.at;
        let lasts = match self.rng.below(20) {
            0 => self.rng.between(10_000, 40_000),
            1..4 => self.rng.between(1_000, 5_000),
            _ => self.rng.between(5, 400),
        };
        let machine = &mut self.machines[number];
        let newest = machine.engine.of_job(job).next_back().map(|(attempt, one)| (*attempt, one));
        let life = match newest {
            Some((_, one)) if one.runs() && at >= one.listens => one.life,
            Some((_, one)) if one.ended_in_health => {
                return self.broken(2, format!("a request went to job {job} of node-{number}, which was told to stop"));
            }
            Some((attempt, one))
                if one.runs() && attempt.number == 1 && !self.memory[number].adopted.contains(&job) =>
            {
                let early = one.listens - at;
                return self.broken(1, format!("a request reached job {job} {early} ms before it listens"));
            }
            // It has died by itself, and the agent has not noticed yet, or nothing else is left: nobody's fault.
            Some(_) | None => return,
        };
        self.coverage.count("promise", "a request was served");
        if let Some(proxy) = machine.proxies.get_mut(&pid) {
            *proxy.open.entry((job, life)).or_default() += 1;
        }
        self.queue.push(at + lasts, Event::ConnectionEnds { machine: number, pid, job, life });
    }

    /// A connection ends by itself.
    pub fn connection_ends(&mut self, number: MachineNumber, pid: u32, job: JobId, life: u64) {
        let Some(proxy) = self.machines[number].proxies.get_mut(&pid) else { return };
        let Some(open) = proxy.open.get_mut(&(job, life)) else { return };
        *open -= 1;
        if *open == 0 {
            proxy.open.remove(&(job, life));
        }
        if !proxy.routes_to(job) {
            self.coverage.count("promise", "a connection was drained");
            self.proxy_says(number, pid);
        }
    }
}

fn pick<T>(from: &[T], chance: u64) -> Option<&T> {
    from.get((chance % from.len().max(1) as u64) as usize)
}
