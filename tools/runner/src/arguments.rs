//! The command line of `cargo xtask`. `xtask` parses it first; the program that it builds and starts for the
//! command parses it again.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The benchmarks, in the order in which they run.
pub const BENCHMARKS: [&str; 9] = [
    "complete",
    "fan-out",
    "cold",
    "feed",
    "connect",
    "backlog",
    "purge",
    "upload",
    "end-to-end",
];

/// The whole command line.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "SyncSphere on this machine, without Docker and without AWS"
)]
pub struct Cli {
    /// Port of the AWS emulator; PostgreSQL gets the next one, and the page the one after that.
    #[arg(long, global = true, default_value_t = 4566)]
    pub port: u16,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Deploy the system to the local stack, upload a file on one device and hear of it on another.
    Demo {
        /// The file to upload.
        #[arg(default_value = "README.md")]
        file: PathBuf,
        /// End with one line of JSON on standard output.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        profile: Profile,
    },
    /// Deploy the system to the local stack and keep it running until Ctrl-C.
    Up {
        /// Only PostgreSQL and the emulator with its queue and bucket, for `cargo lambda watch`.
        #[arg(long, conflicts_with = "release")]
        services: bool,
        /// With --services, where they listen: Docker's bridge, 172.17.0.1, lets functions in containers
        /// reach them.
        #[arg(long, requires = "services", default_value_t = Ipv4Addr::LOCALHOST)]
        address: Ipv4Addr,
        #[command(flatten)]
        profile: Profile,
    },
    /// Build and deploy again to the stack that `cargo xtask up` keeps running.
    Deploy {
        #[command(flatten)]
        profile: Profile,
    },
    /// Run every test, unit to end to end, with the services that they need; schemathesis first.
    Test {
        /// Only the page's: its types, its modules under Node.js, and itself in Chromium.
        #[arg(long, conflicts_with = "arguments")]
        page: bool,
        /// Arguments for `cargo test`, such as a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Invoke every sample of events/ with cargo lambda, and with sam local where a Docker engine answers.
    Samples,
    /// Break everything that the functions depend on, and account for every upload and notification.
    Chaos(Chaos),
    /// Measure the functions as they are deployed, beside baselines and reference implementations.
    Bench(Bench),
    /// Upload with `syncsphere` and with plain curl, many small files and a large one, and once killed half
    /// way.
    Throughput {
        /// Only show that it works: seconds instead of minutes, and figures that mean nothing.
        #[arg(long)]
        quick: bool,
    },
    /// Count what workloads use of AWS, and write its price into docs/operations.md.
    Cost(Cost),
    /// Take each statement out of each policy, one at a time, and see a test fail for it.
    Policies,
    /// Deploy a former release, and this one over it while devices upload and listen: no request may fail.
    Update {
        /// The former release: a tag or a commit.
        #[arg(long)]
        from: String,
    },
    /// Expand the template as AWS does, and judge it: linters, policies, sizes, names, and the dialogue of a
    /// first deployment.
    Template,
    /// Run seeds of the simulations of the sync engine. The first failure is made smaller and printed.
    Simulate {
        /// Arguments of the program; `-- --help` shows them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install the pinned tools, and print where they are.
    Tools,
}

/// The profile that functions are built with.
#[derive(Args, Clone, Copy, Debug)]
pub struct Profile {
    /// Deploy the functions as they are deployed to AWS: built by `cargo lambda` and `sam build` with all
    /// optimizations, which takes minutes.
    #[arg(long)]
    pub release: bool,
}

/// Faults and their extent.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Chaos {
    /// Repeats the faults of another run; a fresh one if none is given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Uploads of each run.
    #[arg(long, default_value_t = 200)]
    pub uploads: u64,
    /// How many runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// How many of them at once.
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// End with one line of JSON for each run on standard output.
    #[arg(long)]
    pub json: bool,
    /// No faults but one: SQS and `fan-out` are out while as many uploads are made as before, and return.
    #[arg(long, conflicts_with_all = ["seeds", "jobs"])]
    pub outage: bool,
    /// No faults but one: a user with a space of 100,000 members, sockets that are never read and members who
    /// come and go, compared with uploads of the others alone.
    #[arg(long, conflicts_with_all = ["seeds", "jobs", "outage"])]
    pub hostile: bool,
    /// Plant every defect of tools/chaos/planted in turn in a copy of the functions, and see that it is
    /// found.
    #[arg(long, conflicts_with_all = ["seeds", "jobs", "outage", "hostile", "binaries", "json"])]
    pub planted: bool,
    /// Take the functions from this folder, each `<name>/bootstrap`, instead of building them.
    #[arg(long, hide = true)]
    pub binaries: Option<PathBuf>,
}

/// Selection and thoroughness of benchmarks.
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// Which benchmarks; all if none is named.
    #[arg(value_parser = BENCHMARKS)]
    pub names: Vec<String>,
    /// Only show that the benchmarks work: seconds instead of minutes, and figures that mean nothing.
    #[arg(long)]
    pub quick: bool,
    /// Measure these binaries instead of building the functions: a folder like target/lambda.
    #[arg(long)]
    pub binaries: Option<PathBuf>,
}

/// The extent of the workloads whose price is computed.
#[derive(Args, Clone, Debug)]
pub struct Cost {
    /// Only show that it works, in seconds: fewer repetitions, functions of the development profile, and
    /// nothing is written. Fails if an operation makes other requests than were recorded.
    #[arg(long)]
    pub quick: bool,
    /// Count with functions of the development profile, which saves minutes of compilation. Their durations
    /// are longer, and the document says so.
    #[arg(long, conflicts_with_all = ["recorded", "binaries"])]
    pub development: bool,
    /// Write the document from the recorded counts, without counting again: after a change of prices.
    #[arg(long, conflicts_with = "quick")]
    pub recorded: bool,
    /// Take the functions from this folder, each `<name>/bootstrap`, instead of building them.
    #[arg(long, hide = true)]
    pub binaries: Option<PathBuf>,
}
