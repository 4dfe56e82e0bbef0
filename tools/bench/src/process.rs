//! A function's process, measured from outside.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as StdCommand;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use lambda::Environment;
use runner::project::Project;
use tokio::process::Command;

/// Timeout of an invocation. It is longer than Lambda's timeout for some functions, because the references are
/// slow.
const TIMEOUT: Duration = Duration::from_mins(5);

/// Core reserved for the measured process, if the machine has more than one.
pub(crate) const CORE: &str = "0";

/// Measurements of one invocation.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Time from passing the event to the process to its response.
    pub(crate) wall: Duration,
    /// CPU time of the process, in user and system mode.
    pub(crate) cpu: Duration,
    /// Number of allocations; 0 if they are not counted.
    pub(crate) allocations: u64,
    pub(crate) answer: Bytes,
}

/// Command line, environment and settings of a process.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) command: Vec<String>,
    pub(crate) variables: Vec<(&'static str, String)>,
    /// File for the process's output.
    pub(crate) log: PathBuf,
    /// Cores that the process may use, in `taskset` syntax; all if `None`.
    pub(crate) cores: Option<String>,
    /// Library to preload that counts allocations; `None` if they are not counted.
    pub(crate) counter: Option<PathBuf>,
}

/// A running process.
pub(crate) struct Process {
    environment: Environment,
    /// Duration of its init phase.
    pub(crate) init: Duration,
    /// CPU time of the init phase.
    pub(crate) init_cpu: Duration,
    counters: Option<PathBuf>,
    id: u32,
}

/// Note in the report if instructions could not be counted.
pub(crate) const NO_VALGRIND: &str =
    "Instructions were not counted, for want of valgrind (`apt-get install valgrind`).";

/// A program whose instructions are counted with valgrind, which runs it about 50 times slower.
pub(crate) struct Instructions {
    program: Program,
    log: PathBuf,
}

impl Instructions {
    /// `None` if valgrind is not installed.
    pub(crate) fn of(program: &Program) -> Option<Self> {
        let installed = StdCommand::new("valgrind").arg("--version").output();
        if !installed.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let log = program.log.with_extension("valgrind");
        let mut command: Vec<String> = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
            .map(str::to_owned)
            .into();
        command.push(format!("--log-file={}", log.display()));
        command.extend(program.command.iter().cloned());
        let program = Program {
            command,
            ..program.clone()
        };
        Some(Self { program, log })
    }

    /// Instructions per later invocation: the count of a process with `1 + many` invocations minus the count
    /// with one, divided by `many`.
    pub(crate) async fn of_one(
        &self,
        many: u32,
        invoke: impl AsyncFn(&mut Process) -> Result<()>,
    ) -> Result<f64> {
        let first = self.count(1, &invoke).await?;
        let all = self.count(1 + many, &invoke).await?;
        Ok((all - first) / f64::from(many))
    }

    /// Instructions of a process from its start to its end.
    async fn count(
        &self,
        invocations: u32,
        invoke: &impl AsyncFn(&mut Process) -> Result<()>,
    ) -> Result<f64> {
        let mut process = self.program.start().await?;
        for _ in 0..invocations {
            invoke(&mut process).await?;
        }
        process.environment.terminate().await?;
        let log = fs::read_to_string(&self.log).context("valgrind has no log")?;
        let counted = log.lines().find_map(|line| line.split_once("Collected :"));
        let counted = counted.and_then(|(_, number)| number.trim().parse().ok());
        counted.with_context(|| format!("valgrind has counted nothing; see {}", self.log.display()))
    }
}

impl Program {
    /// Starts the process and waits until it requests its first invocation.
    pub(crate) async fn start(&self) -> Result<Process> {
        let mut words: Vec<&str> = Vec::new();
        if let Some(cores) = &self.cores {
            words.extend(["taskset", "-c", cores]);
        }
        words.extend(self.command.iter().map(String::as_str));
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        for name in ["PATH", "HOME"] {
            #[expect(
                clippy::disallowed_methods,
                reason = "child processes inherit the search path"
            )]
            if let Ok(value) = std::env::var(name) {
                command.env(name, value);
            }
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot open {}", self.log.display()))?;
        command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log);
        let counters = match &self.counter {
            Some(library) => {
                let path = self.log.with_extension("counters");
                let mut file = File::create(&path).context("cannot count allocations")?;
                file.write_all(&[0; 16]).context("cannot count allocations")?;
                command.env("LD_PRELOAD", library).env("ALLOCATIONS_FILE", &path);
                Some(path)
            }
            None => None,
        };
        let mut environment = Environment::start(self.name, command).await?;
        let Ok(init) = environment.ready().await else {
            bail!(
                "{} ended before its first invocation; see {}",
                self.name,
                self.log.display()
            );
        };
        let id = environment.id().context("the process is gone")?;
        Ok(Process {
            init,
            init_cpu: cpu(id)?,
            environment,
            counters,
            id,
        })
    }
}

impl Process {
    /// Ends the process and waits for its exit.
    pub(crate) async fn end(self) {
        self.environment.end().await;
    }

    /// Invokes the function once.
    pub(crate) async fn invoke(&mut self, payload: impl Into<Bytes>) -> Result<Measured> {
        let payload = payload.into();
        let before = (cpu(self.id)?, self.allocated()?);
        let begun = Instant::now();
        let answer = self.environment.invoke(payload, TIMEOUT, None).await;
        let wall = begun.elapsed();
        let Ok(answer) = answer else {
            bail!("an invocation failed: {answer:?}");
        };
        Ok(Measured {
            wall,
            cpu: cpu(self.id)?.saturating_sub(before.0),
            allocations: self.allocated()?.saturating_sub(before.1),
            answer,
        })
    }

    /// Peak resident memory, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let kilobytes = proc(self.id)?.status()?.vmhwm;
        Ok(kilobytes.context("/proc shows no memory")? * 1_024)
    }

    /// Current resident memory, in bytes.
    pub(crate) fn resident_memory(&self) -> Result<u64> {
        let kilobytes = proc(self.id)?.status()?.vmrss;
        Ok(kilobytes.context("/proc shows no memory")? * 1_024)
    }

    /// Limits the process to a share of a core from now on.
    pub(crate) fn limit(&self, quota: &Quota) -> Result<()> {
        quota.add(self.id)
    }

    fn allocated(&self) -> Result<u64> {
        let Some(path) = &self.counters else { return Ok(0) };
        let bytes = fs::read(path).context("cannot read the counters")?;
        let first = bytes.first_chunk().context("the counters are gone")?;
        Ok(u64::from_ne_bytes(*first))
    }
}

/// CPU time of all threads of a process, from the scheduler's statistics (`schedstat`). `/proc/…/stat` has a
/// resolution of a tick, often 10 ms, but includes threads that have ended.
fn cpu(id: u32) -> Result<Duration> {
    let process = proc(id)?;
    let tasks = process.tasks().context("the process is gone")?.flatten();
    // A thread that has just ended has no statistics.
    let nanoseconds = tasks
        .filter_map(|task| task.schedstat().ok())
        .map(|statistics| statistics.sum_exec_runtime);
    let fine = Duration::from_nanos(nanoseconds.sum());
    let stat = process.stat().context("the process is gone")?;
    let coarse = Duration::from_millis((stat.utime + stat.stime) * 1_000 / procfs::ticks_per_second());
    // A tick is charged to the thread that runs when the tick occurs, so a small excess of this figure means
    // nothing.
    Ok(if coarse > fine + Duration::from_millis(100) {
        coarse
    } else {
        fine
    })
}

fn proc(id: u32) -> Result<procfs::process::Process> {
    procfs::process::Process::new(i32::try_from(id)?).context("the process is gone")
}

/// A share of one core, as Lambda gives to a function with less than 1,769 MB (AWS Lambda Developer Guide,
/// "Configure Lambda function memory").
pub(crate) struct Quota {
    folder: PathBuf,
}

/// Memory with which a function has one full core, in MB (as above).
const WHOLE_CORE: f64 = 1_769.0;

/// Period of the CPU quota, in microseconds.
const PERIOD: f64 = 20_000.0;

/// Prefix of the control groups' names.
const QUOTAS: &str = "syncsphere-bench-";

/// Removes control groups left by interrupted runs.
fn remove_orphans(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let of_run = name
            .to_str()
            .and_then(|name| name.strip_prefix(QUOTAS)?.split('-').next());
        if of_run.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Quota {
    /// Quota for a memory size in MB; `None` if this user may not create control groups.
    pub(crate) fn of_memory(megabytes: u32) -> Option<Self> {
        let quota = format!("{:.0}", (PERIOD * f64::from(megabytes) / WHOLE_CORE).max(1_000.0));
        let name = format!("{QUOTAS}{}-{megabytes}", std::process::id());
        // cgroup v1, then cgroup v2.
        let (old, new) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        let make = |parent: &Path, settings: &[(&str, String)]| {
            remove_orphans(parent);
            let folder = parent.join(&name);
            fs::create_dir(&folder).ok()?;
            let made = Self { folder };
            let set = |(file, value): &(&str, String)| fs::write(made.folder.join(file), value).is_ok();
            settings.iter().all(set).then_some(made)
        };
        make(
            old,
            &[
                ("cpu.cfs_period_us", PERIOD.to_string()),
                ("cpu.cfs_quota_us", quota.clone()),
            ],
        )
        .or_else(|| make(new, &[("cpu.max", format!("{quota} {PERIOD}"))]))
    }

    fn add(&self, id: u32) -> Result<()> {
        fs::write(self.folder.join("cgroup.procs"), id.to_string()).context("cannot limit a process's CPU")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The group can be removed after its processes have ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Compiles the library that counts allocations. A C compiler is available, because Rust links with one.
pub(crate) fn allocation_counter(folder: &Path) -> Result<PathBuf> {
    let library = folder.join("allocations.so");
    let source = Project::find()?.root.join("tools/bench/allocations.c");
    let compiling = StdCommand::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    match compiling {
        Ok(status) if status.success() => Ok(library),
        _ => {
            bail!("cannot compile tools/bench/allocations.c; is there a C compiler (`apt-get install gcc`)?")
        }
    }
}

/// Excludes this process from the core of the measured process if there are other cores. Returns the number
/// of cores.
pub(crate) fn leave_core() -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 {
        let mut others = nix::sched::CpuSet::new();
        for core in 1..cores {
            others.set(core).context("too many cores")?;
        }
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &others)
            .context("cannot choose cores")?;
    }
    Ok(cores)
}
