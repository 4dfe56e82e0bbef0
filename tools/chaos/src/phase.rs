//! Phases of uploads whose times are compared with each other.

use std::time::Duration;

use runner::ui::Step;

use super::cluster::Cluster;
use super::history::Counts;
use super::run::{Plan, progress};
use super::workload::Workload;

/// Makes the uploads of a plan without other changes. Returns the times that `take` reads from the counters,
/// in milliseconds and ascending order.
pub(crate) async fn phase(
    cluster: &Cluster,
    plan: &Plan,
    seed: u64,
    step: &Step,
    take: fn(&Counts) -> Vec<Duration>,
) -> Vec<f64> {
    let counts = &cluster.context.history.counts;
    take(counts);
    let workload = Workload::only_uploads(cluster.context.clone(), cluster.users.clone(), seed, plan.uploads);
    tokio::select! {
        () = workload.run() => {}
        () = progress(step, &workload, plan.uploads) => {}
    }
    let mut times = take(counts);
    times.sort_unstable();
    times.iter().map(|time| time.as_secs_f64() * 1_000.0).collect()
}

/// The percentile of an ascending list, with `share` between 0 and 1; 0 if the list is empty.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a list"
    )]
    let at = (share * sorted.len() as f64) as usize;
    let at = at.min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_list() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((percentile(&sorted, 0.5) - 51.0).abs() < 0.01);
        assert!((percentile(&sorted, 0.99) - 100.0).abs() < 0.01);
        assert!(percentile(&[], 0.5).abs() < 0.01);
    }
}
