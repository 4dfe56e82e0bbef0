//! The scenarios that all clients share: `clients/vectors`.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::fake_service::Fates;
use super::*;

#[derive(Deserialize)]
struct Scenario {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Step {
    Commit(u128, usize),
    Share(u128),
    Leave(u128),
    Drop,
    Kill,
    Restore { keep: usize, forget: bool },
    Restart,
    Wake,
    Wait(u64),
    Faults(Fates),
}

/// Reads a file of scenarios. Cargo runs tests in the folder of their package.
fn scenarios(file: &str) -> Vec<Scenario> {
    let path = PathBuf::from("../vectors").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

async fn run(scenario: &Scenario, seed: u64) {
    let Scenario { name, steps } = scenario;
    let service = FakeService::new(seed, Faults::NONE);
    service.set_fates(Fates::without_faults());
    let mut caller = Caller::start(&service, seed);
    let mut may_reset = false;
    for step in steps {
        match step {
            Step::Commit(number, count) => {
                for _ in 0..*count {
                    service.commit(space(*number));
                }
            }
            Step::Share(number) => service.share(space(*number)),
            Step::Leave(number) => service.leave(space(*number)),
            Step::Drop => service.drop_connections(),
            Step::Kill => service.kill_connections(),
            Step::Restore { keep, forget } => {
                service.restore_percent(*keep);
                if *forget {
                    service.forget_connections();
                }
                may_reset = true;
            }
            Step::Restart => caller.restart(&service, seed),
            Step::Wake => caller.watcher.reconnect_now(),
            Step::Wait(millis) => caller.listen(Duration::from_millis(*millis)).await,
            Step::Faults(fates) => service.set_fates(fates.clone()),
        }
    }
    service.set_fates(Fates::without_faults());
    caller.listen(Duration::from_hours(2)).await;
    if let Err(wrong) = caller.check(&service) {
        panic!("{wrong} in \"{name}\"");
    }
    assert!(may_reset || caller.cursor_resets == 0, "{name}");
}

#[tokio::test(start_paused = true)]
async fn scenarios_written_by_hand_deliver_each_change_once_and_in_order() {
    for scenario in scenarios("watcher.json") {
        run(&scenario, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn random_scenarios_deliver_each_change_once_and_in_order() {
    for (seed, scenario) in scenarios("watcher-generated.json").iter().enumerate() {
        run(scenario, seed as u64).await;
    }
}
