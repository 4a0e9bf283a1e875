//! What a process cost, seen from outside: CPU, memory, descriptors, threads. Never touches the process.

use nix::unistd::Pid;
use std::fs;
use std::io;
use std::time::Duration;

/// Kernel ticks of /proc/PID/stat: USER_HZ is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// A server under test: its first process and, where it forks, all that come from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) pid: u32,
    pub(crate) forks: bool,
}

impl Subject {
    /// CPU since its start, of all threads and processes, those that ended included.
    pub(crate) fn cpu(self) -> io::Result<Duration> {
        let mut total = Duration::ZERO;
        for pid in self.processes()? {
            match process_cpu(pid) {
                Ok(cpu) => total += cpu,
                // A child that ended between the listing and this line is in its parent's count.
                Err(_) if pid != self.pid => {}
                Err(error) => return Err(error),
            }
        }
        if self.forks {
            let stat = read(self.pid, "stat")?;
            total += parse_stat(&stat).ok_or_else(|| malformed("stat"))?.children;
        }
        Ok(total)
    }

    /// KiB that belong to it alone.
    pub(crate) fn memory_kib(self) -> io::Result<u64> {
        self.sum(|pid| {
            parse_private_kib(&read(pid, "smaps_rollup")?).ok_or_else(|| malformed("smaps_rollup"))
        })
    }

    /// Open descriptors.
    pub(crate) fn descriptors(self) -> io::Result<u64> {
        self.sum(|pid| Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.map(|_| 1).sum()))
    }

    /// CPU of each living thread of the first process, in seconds.
    pub(crate) fn threads(self) -> io::Result<Vec<Thread>> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let directory = entry?.path();
            let id = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            // A thread may end while it is looked at.
            let (Some(id), Ok(name), Ok(schedstat)) = (
                id,
                fs::read_to_string(directory.join("comm")),
                fs::read_to_string(directory.join("schedstat")),
            ) else {
                continue;
            };
            let cpu = parse_schedstat(&schedstat).ok_or_else(|| malformed("schedstat"))?;
            threads.push(Thread { id, name: name.trim_end().to_owned(), cpu });
        }
        Ok(threads)
    }

    fn sum(self, measure: impl Fn(u32) -> io::Result<u64>) -> io::Result<u64> {
        let mut total = 0;
        for pid in self.processes()? {
            match measure(pid) {
                Ok(value) => total += value,
                Err(_) if pid != self.pid => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn processes(self) -> io::Result<Vec<u32>> {
        let mut found = vec![self.pid];
        if !self.forks {
            return Ok(found);
        }
        let parents = parents()?;
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        Ok(found)
    }
}

/// A thread of a server and what it used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thread {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) cpu: Duration,
}

/// CPU seconds that each worker used between two looks: threads whose name holds `name_part`, or, where none has
/// such a name, all threads that used a fiftieth of the whole or more.
pub(crate) fn worker_seconds(before: &[Thread], after: &[Thread], name_part: &str) -> Vec<f64> {
    let used: Vec<(bool, f64)> = after
        .iter()
        .map(|thread| {
            let earlier = before.iter().find(|old| old.id == thread.id).map_or(Duration::ZERO, |old| old.cpu);
            (thread.name.contains(name_part), thread.cpu.saturating_sub(earlier).as_secs_f64())
        })
        .collect();
    if used.iter().any(|(named, _)| *named) {
        return used.iter().filter(|(named, _)| *named).map(|(_, seconds)| *seconds).collect();
    }
    let whole: f64 = used.iter().map(|(_, seconds)| seconds).sum();
    used.iter()
        .map(|(_, seconds)| *seconds)
        .filter(|seconds| *seconds * 50.0 >= whole && whole > 0.0)
        .collect()
}

fn process_cpu(pid: u32) -> io::Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
    let time = nix::time::ClockId::pid_cpu_clock_id(pid)?.now()?;
    Ok(Duration::from(time))
}

fn parents() -> io::Result<Vec<(u32, u32)>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(stat) = read(pid, "stat").ok().as_deref().and_then(parse_stat) {
            parents.push((pid, stat.parent));
        }
    }
    Ok(parents)
}

fn read(pid: u32, file: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{file} has a shape that is not known"))
}

#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// CPU of children that ended and were waited for.
    children: Duration,
}

/// Shape: `PID (NAME) STATE PPID …`; the name may hold spaces and parentheses, so fields are counted after the last
/// `)`. proc(5): parent is field 4, cutime and cstime are fields 16 and 17.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    let children = TICK.checked_mul(ticks(13)?.checked_add(ticks(14)?)?)?;
    Some(Stat { parent: ticks(1)?, children })
}

/// Sum of the lines `Private_Clean` and `Private_Dirty`, in KiB.
fn parse_private_kib(text: &str) -> Option<u64> {
    let of = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(of("Private_Clean:")? + of("Private_Dirty:")?)
}

/// Shape: `NANOSECONDS_ON_CPU NANOSECONDS_WAITING SLICES`.
fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_a_hostile_name() {
        let line = "42 (a) b) (c) S 7 1 1 0 -1 4194560 1 2 3 4 50 60 25 5 20 0 1 0 99";
        assert_eq!(parse_stat(line), Some(Stat { parent: 7, children: Duration::from_millis(300) }));
        assert_eq!(parse_stat("42 (a) S"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn private_memory_is_clean_and_dirty_together() {
        let text =
            "5-7 ---p 0 0:0 0 [rollup]\nRss: 99 kB\nPrivate_Clean:        56 kB\nPrivate_Dirty:  112 kB\n";
        assert_eq!(parse_private_kib(text), Some(168));
        assert_eq!(parse_private_kib("Rss: 1 kB\n"), None);
    }

    #[test]
    fn schedstat_counts_nanoseconds() {
        assert_eq!(parse_schedstat("286948 0 3\n"), Some(Duration::from_nanos(286_948)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn workers_are_found_by_name_or_by_what_they_used() {
        let thread = |id, name: &str, ms| Thread { id, name: name.into(), cpu: Duration::from_millis(ms) };
        let before = [thread(1, "main", 5), thread(2, "worker-0", 100)];
        let after = [thread(1, "main", 905), thread(2, "worker-0", 400), thread(3, "worker-1", 100)];
        assert_eq!(worker_seconds(&before, &after, "worker"), vec![0.3, 0.1]);
        assert_eq!(worker_seconds(&before, &after, "io"), vec![0.9, 0.3, 0.1]);
        assert_eq!(worker_seconds(&after, &after, "io"), Vec::<f64>::new());
    }

    #[test]
    fn this_process_can_be_measured() {
        let subject = Subject { pid: std::process::id(), forks: true };
        assert!(subject.cpu().unwrap() > Duration::ZERO);
        assert!(subject.memory_kib().unwrap() > 0);
        assert!(subject.descriptors().unwrap() >= 3);
        assert!(!subject.threads().unwrap().is_empty());
    }
}
