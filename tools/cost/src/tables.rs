//! The tables of docs/operations.md: what each workload costs, and how that compares with the goals.

mod markdown;

use std::collections::BTreeMap;

use crate::counts::{Counts, Recorded, Workload, float};
use crate::prices::{Price, Prices};
use crate::template::Template;
use crate::world::{DATABASE_LATENCY, LATENCY};
use markdown::{Table, dollars, number};

/// Uploads of a table, and notifications.
const MILLION: f64 = 1e6;

/// Devices of a table.
const DEVICES: f64 = 1_000.0;

/// Bytes of a GB, as CloudWatch and data transfer bill it.
const GB: f64 = 1e9;

/// Bytes of a GB of memory in MB.
const GB_OF_MEMORY: f64 = 1_024.0;

/// A line of a bill.
struct Item {
    name: String,
    calculation: String,
    dollars: f64,
}

/// Computes prices.
struct Model<'a> {
    prices: &'a Prices,
    template: &'a Template,
}

/// Everything that is written into the document.
pub(crate) fn tables(recorded: &Recorded, prices: &Prices, template: &Template) -> String {
    let model = Model { prices, template };
    let workloads = &recorded.workloads;
    let single = model.bill(&workloads.single, MILLION);
    let folder = model.bill(&workloads.folder, MILLION);
    let devices = model.devices(&workloads.heartbeat, &workloads.connection);
    let sections = [
        model.introduction(recorded),
        model.goals(&single, &folder, &devices),
        per_file(&workloads.folder),
        format!(
            "**A million single uploads**, each of 4 KiB, in one PUT and notified to one device.\n\n{}",
            bill_table(&single)
        ),
        format!(
            "**A million uploads by `syncsphere upload FOLDER`**, each of 4 KiB and notified to one device.\n\n{}",
            bill_table(&folder)
        ),
        format!(
            "**A thousand devices, connected all month** ({} h) without changes. A device sends a heartbeat every {} minutes and replaces its \
             connection every {} minutes.\n\n{}",
            number(prices.assumptions.hours),
            number(model.heartbeat_minutes()),
            number(prices.assumptions.connection_minutes),
            bill_table(&devices)
        ),
        format!(
            "**A million versions of files, purged** by `maintenance` after their time.\n\n{}",
            bill_table(&model.bill(&workloads.purge, MILLION))
        ),
        format!(
            "**A month of the stack at rest** ({} h).\n\n{}",
            number(prices.assumptions.hours),
            model.at_rest(&workloads.maintenance)
        ),
        format!(
            "**Counts of one operation**, from which the tables are computed.\n\n{}",
            counts_table(recorded)
        ),
        model.traces(&workloads.single),
        format!("**Prices.** {}\n\n{}", price_note(prices), price_table(prices)),
    ];
    sections.join("\n\n") + "\n"
}

fn sum(items: &[Item]) -> f64 {
    items.iter().map(|item| item.dollars).sum()
}

/// The counts of one operation.
struct Average<'a>(&'a Workload);

impl Average<'_> {
    fn of(&self, count: u64) -> f64 {
        float(count) / float(self.0.times)
    }

    fn sum(&self, counts: &BTreeMap<String, u64>) -> f64 {
        self.of(counts.values().sum())
    }
}

/// The requests to S3 at the price of a PUT. Requests with DELETE are free.
fn s3_puts(counts: &Counts) -> u64 {
    let kinds = ["PUT", "POST", "LIST"];
    kinds.iter().filter_map(|kind| counts.s3.get(*kind)).sum()
}

/// The requests to S3 at the price of a GET.
fn s3_gets(counts: &Counts) -> u64 {
    let kinds = ["GET", "HEAD"];
    kinds.iter().filter_map(|kind| counts.s3.get(*kind)).sum()
}

impl Model<'_> {
    /// The bill of a number of operations.
    fn bill(&self, workload: &Workload, times: f64) -> Vec<Item> {
        let (list, counts) = (&self.prices.list, &workload.counts);
        let average = Average(workload);
        let invocations = counts.all_invocations();
        let milliseconds = average.of(invocations.milliseconds);
        let memory = f64::from(self.template.memory) / GB_OF_MEMORY;
        let invoked = average.of(invocations.count) * times;
        let gigabyte_seconds = milliseconds / 1e3 * memory * times;
        let system = counts.invocations.iter().map(|(name, all)| {
            let logging = self.template.logging.get(name);
            all.count * logging.map_or(0, |logging| logging.system_bytes)
        });
        let system = system.sum();
        let logged = (average.sum(&counts.log_bytes) + average.of(system)) * times / GB;
        let logs = [&list.logs_ingested, &list.logs_stored];
        let traces = invoked * self.traced_share();
        let items = [
            per_million(
                "HTTP API requests",
                average.sum(&counts.http) * times,
                &list.http_request,
            ),
            per_million(
                "S3 requests that write or list",
                average.of(s3_puts(counts)) * times,
                &list.s3_put,
            ),
            per_million(
                "S3 requests that read",
                average.of(s3_gets(counts)) * times,
                &list.s3_get,
            ),
            per_million(
                "SQS requests",
                average.sum(&counts.sqs) * times,
                &list.sqs_request,
            ),
            per_million(
                "WebSocket messages",
                average.of(counts.messages_in + counts.messages_out) * times,
                &list.web_socket_message,
            ),
            per_million("Lambda invocations", invoked, &list.invocation),
            Item {
                name: "Lambda duration".to_owned(),
                calculation: format!(
                    "{} ms × {} GB × {} = {} GB-s × {}{}",
                    number(milliseconds),
                    number(memory),
                    millions(times),
                    number(gigabyte_seconds),
                    list.gigabyte_second.dollars,
                    list.gigabyte_second.mark(),
                ),
                dollars: list.gigabyte_second.of(gigabyte_seconds),
            },
            Item {
                name: "Logs, ingested, and stored for a month".to_owned(),
                calculation: format!(
                    "{} GB × ({})",
                    number(logged),
                    logs.map(|price| format!("{:.2}{}", price.dollars, price.mark()))
                        .join(" + ")
                ),
                dollars: logs.iter().map(|price| price.of(logged)).sum(),
            },
            per_million("X-Ray traces", traces, &list.trace),
            Item {
                name: "Data to the internet".to_owned(),
                calculation: format!(
                    "{} GB × {:.2}{}",
                    number(average.of(counts.bytes_out) * times / GB),
                    list.data_out.dollars,
                    list.data_out.mark()
                ),
                dollars: list.data_out.of(average.of(counts.bytes_out) * times / GB),
            },
        ];
        items.into_iter().filter(|item| item.dollars > 0.0).collect()
    }

    fn traced_share(&self) -> f64 {
        if self.template.traced {
            self.prices.assumptions.traced_share
        } else {
            0.0
        }
    }

    /// Minutes between two heartbeats.
    fn heartbeat_minutes(&self) -> f64 {
        let minutes = &self.prices.assumptions.heartbeat_minutes;
        if self.template.has_heartbeat() {
            minutes.heartbeat
        } else {
            minutes.ping
        }
    }

    /// The bill of a month of connected devices.
    fn devices(&self, heartbeat: &Workload, connection: &Workload) -> Vec<Item> {
        let assumptions = &self.prices.assumptions;
        let minutes = DEVICES * assumptions.hours * 60.0;
        let mut items = vec![per_million(
            "Connection minutes",
            minutes,
            &self.prices.list.connection_minute,
        )];
        for (name, workload, every) in [
            ("Heartbeats", heartbeat, self.heartbeat_minutes()),
            ("Replaced connections", connection, assumptions.connection_minutes),
        ] {
            for item in self.bill(workload, minutes / every) {
                items.push(Item {
                    name: format!("{name}: {}", item.name),
                    ..item
                });
            }
        }
        items
    }

    /// The table of a month without requests, by size.
    fn at_rest(&self, maintenance: &Workload) -> String {
        let (list, assumptions) = (&self.prices.list, &self.prices.assumptions);
        let minutes = assumptions.hours * 60.0;
        let polls = assumptions.pollers * assumptions.polls_per_minute * minutes;
        let alarms = float(self.template.alarm_metrics);
        let run = sum(&self.bill(maintenance, minutes));
        let fixed = [
            counted("Custom metrics", assumptions.custom_metrics, &list.custom_metric),
            counted("Dashboard", 1.0, &list.dashboard),
            counted("Secret", 1.0, &list.secret),
            counted("Metrics of alarms", alarms, &list.alarm_metric),
            Item {
                name: "`maintenance`, every minute".to_owned(),
                calculation: format!(
                    "{} runs: {} for Scheduler, {} for the rest",
                    number(minutes),
                    dollars(list.scheduled_run.of(minutes)),
                    dollars(run)
                ),
                dollars: list.scheduled_run.of(minutes) + run,
            },
            per_million("Polling of the idle queue", polls, &list.sqs_request),
        ];
        let database = |name: &str, price: &Price, zones: f64| Item {
            name: name.to_owned(),
            calculation: format!(
                "{} h × {}{} × {} + {} GB × {}{} × {}",
                number(assumptions.hours),
                price.dollars,
                price.mark(),
                number(zones),
                number(assumptions.database_storage),
                list.database_storage.dollars,
                list.database_storage.mark(),
                number(zones),
            ),
            dollars: zones
                * (price.of(assumptions.hours) + list.database_storage.of(assumptions.database_storage)),
        };
        let databases = [
            ("trial", database("Database of trial", &list.database_trial, 1.0)),
            (
                "small, one zone",
                database("Database of small, one zone", &list.database_small, 1.0),
            ),
            (
                "small",
                database("Database of small, `MultiAz`", &list.database_small, 2.0),
            ),
            (
                "medium",
                database("Database of medium, `MultiAz`", &list.database_medium, 2.0),
            ),
        ];
        let mut table = Table::new(["Item", "Calculation", "$"]);
        for item in fixed.iter().chain(databases.iter().map(|(_, item)| item)) {
            table.add(vec![
                item.name.clone(),
                item.calculation.clone(),
                dollars(item.dollars),
            ]);
        }
        for (size, item) in &databases {
            let all = sum(&fixed) + item.dollars;
            let calculation = format!("{} + {}", dollars(sum(&fixed)), dollars(item.dollars));
            table.add(vec![
                format!("**Sum, {size}**"),
                calculation,
                format!("**{}**", dollars(all)),
            ]);
        }
        table.to_string()
    }

    fn introduction(&self, recorded: &Recorded) -> String {
        let profile = match recorded.profile.as_str() {
            "release" => "",
            _ => {
                "\n\n**The functions were built with the development profile: their durations are longer than in a deployment.**"
            }
        };
        format!(
            "US dollars, {}. Counted on {}. Prices were read on {}; one without a source is marked with †. Functions have {} MB, \
             arm64. Durations are measured on the machine of the run, with S3, SQS and `@connections` that answer after {} ms and \
             PostgreSQL after {} ms, and without the init phase. {}{profile}",
            self.prices.region,
            recorded.day,
            self.prices.date,
            self.template.memory,
            LATENCY.as_millis(),
            DATABASE_LATENCY.as_millis(),
            self.system_logs(),
        )
    }

    /// What Lambda itself logs.
    fn system_logs(&self) -> String {
        let bytes = self.template.logging.values().map(|logging| logging.system_bytes);
        match bytes.max().unwrap_or_default() {
            0 => "Lambda writes no log lines of its own for invocations that succeed.".to_owned(),
            bytes => format!("Lambda adds {bytes} bytes of its own log lines to each invocation."),
        }
    }

    /// What traces cost beyond the tables.
    fn traces(&self, single: &Workload) -> String {
        let traces = Average(single).of(single.counts.all_invocations().count) * MILLION;
        let (trace, assumptions) = (&self.prices.list.trace, &self.prices.assumptions);
        let seconds = assumptions.hours * 3_600.0;
        let begin = if self.template.traced {
            "**Traces.** X-Ray records the first request of each second in addition to the share in the tables"
        } else {
            "**Traces** are off by default. If they are on, X-Ray records a share of the requests, and the first request of each second"
        };
        format!(
            "{begin}: up to {}, {} a month, for each function that is never idle. At less than one request a second nearly all requests are \
             therefore traced, and a million single uploads cost up to {} for X-Ray.",
            millions(seconds),
            dollars(trace.of(seconds)),
            dollars(trace.of(traces)),
        )
    }

    /// The ratios of the goals.
    fn goals(&self, single: &[Item], folder: &[Item], devices: &[Item]) -> String {
        let list = &self.prices.list;
        let storage = list.s3_put.of(MILLION) + list.s3_get.of(MILLION);
        let requests = storage
            + list.http_request.of(2.0 * MILLION)
            + list.sqs_request.of(3.0 * MILLION)
            + list.web_socket_message.of(MILLION);
        let minutes = list
            .connection_minute
            .of(DEVICES * self.prices.assumptions.hours * 60.0);
        let mut table = Table::new(["Price of", "$", "Compared with", "$", "Ratio", "Goal", "Mark"]);
        for (what, items, control, least, goal, stretch) in [
            (
                "a million uploads of folders, each notified to one device",
                folder,
                "PUT and HEAD",
                storage,
                1.1,
                1.05,
            ),
            (
                "a million single uploads, each notified to one device",
                single,
                "their requests alone: 2 HTTP, PUT, HEAD, 3 SQS, 1 message",
                requests,
                1.15,
                1.1,
            ),
            (
                "a thousand devices, connected all month",
                devices,
                "connection minutes",
                minutes,
                1.8,
                1.6,
            ),
        ] {
            let ratio = sum(items) / least;
            table.add(vec![
                what.to_owned(),
                dollars(sum(items)),
                control.to_owned(),
                dollars(least),
                format!("×{ratio:.2}"),
                format!("≤ {goal} ({stretch})"),
                mark(ratio, goal, Some(stretch)).to_owned(),
            ]);
        }
        table.to_string()
    }
}

/// Whether a value is at most its goal, or its stretch goal.
fn mark(value: f64, goal: f64, stretch: Option<f64>) -> &'static str {
    if stretch.is_some_and(|stretch| value <= stretch) {
        "stretch"
    } else if value <= goal {
        "met"
    } else {
        "**MISSED**"
    }
}

/// What a file of a folder shares with others.
fn per_file(folder: &Workload) -> String {
    let (average, counts) = (Average(folder), &folder.counts);
    let mut table = Table::new(["Per file of a folder", "Count", "Goal", "Mark"]);
    for (what, count, goal) in [
        ("invocations", average.of(counts.all_invocations().count), 0.05),
        ("round trips to PostgreSQL", average.of(counts.database), 0.08),
        ("SQS requests", average.sum(&counts.sqs), 0.08),
    ] {
        let mark = mark(count, goal, None);
        table.add(vec![
            what.to_owned(),
            number(count),
            format!("≤ {goal}"),
            mark.to_owned(),
        ]);
    }
    table.to_string()
}

/// An item that is priced by the million.
fn per_million(name: &str, units: f64, price: &Price) -> Item {
    Item {
        name: name.to_owned(),
        calculation: format!(
            "{} × {:.2}{} / M",
            millions(units),
            price.of(MILLION),
            price.mark()
        ),
        dollars: price.of(units),
    }
}

/// An item that is priced by the unit.
fn counted(name: &str, units: f64, price: &Price) -> Item {
    Item {
        name: name.to_owned(),
        calculation: format!("{} × {:.2}{}", number(units), price.dollars, price.mark()),
        dollars: price.of(units),
    }
}

fn millions(units: f64) -> String {
    format!("{} M", number(units / MILLION))
}

fn bill_table(items: &[Item]) -> String {
    let mut table = Table::new(["Item", "Calculation", "$"]);
    for item in items {
        table.add(vec![
            item.name.clone(),
            item.calculation.clone(),
            dollars(item.dollars),
        ]);
    }
    table.add(vec![
        "**Sum**".to_owned(),
        String::new(),
        format!("**{}**", dollars(sum(items))),
    ]);
    table.to_string()
}

/// The counts of each workload, divided by its operations.
fn counts_table(recorded: &Recorded) -> String {
    let workloads = recorded.workloads.all();
    let mut rows: Vec<(String, Vec<f64>)> = Vec::new();
    for (column, (_, workload)) in workloads.iter().enumerate() {
        let (average, counts) = (Average(workload), &workload.counts);
        let mut add = |name: String, value: f64| {
            let at = rows.iter().position(|(known, _)| *known == name);
            let at = at.unwrap_or_else(|| {
                rows.push((name, vec![0.0; workloads.len()]));
                rows.len() - 1
            });
            rows[at].1[column] = value;
        };
        for (route, count) in &counts.http {
            add(format!("HTTP `{route}`"), average.of(*count));
        }
        for (kind, count) in &counts.s3 {
            add(format!("S3 {kind}"), average.of(*count));
        }
        for (action, count) in &counts.sqs {
            add(format!("SQS {action}, units of 64 KB"), average.of(*count));
        }
        for (function, all) in &counts.invocations {
            add(format!("`{function}`, invocations"), average.of(all.count));
            add(format!("`{function}`, ms billed"), average.of(all.milliseconds));
        }
        for (group, length) in &counts.log_bytes {
            add(format!("{group}, bytes logged"), average.of(*length));
        }
        add("PostgreSQL, round trips".to_owned(), average.of(counts.database));
        add(
            "messages to devices, units of 32 KB".to_owned(),
            average.of(counts.messages_out),
        );
        add(
            "messages from devices, units of 32 KB".to_owned(),
            average.of(counts.messages_in),
        );
        add("bytes to the internet".to_owned(), average.of(counts.bytes_out));
    }
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut header = vec!["Count".to_owned()];
    header.extend(workloads.iter().map(|(name, _)| (*name).to_owned()));
    let mut table = Table::with(header);
    for (name, values) in rows
        .into_iter()
        .filter(|(_, values)| values.iter().any(|value| *value > 0.0))
    {
        let values = values
            .into_iter()
            .map(|value| if value > 0.0 { number(value) } else { String::new() });
        table.add([name].into_iter().chain(values).collect());
    }
    let operations = workloads
        .iter()
        .map(|(_, workload)| number(float(workload.times)));
    table.add(
        ["operations counted".to_owned()]
            .into_iter()
            .chain(operations)
            .collect(),
    );
    table.to_string()
}

fn price_note(prices: &Prices) -> String {
    format!(
        "Read on {} on the pages in the last column, since AWS's pages show prices only in a browser. Check them against AWS's before you \
         rely on them. Free tiers and volume discounts are not considered.",
        prices.date
    )
}

fn price_table(prices: &Prices) -> String {
    let mut table = Table::new(["Unit", "$", "Page of AWS", "Read on, with the date of that page"]);
    for price in prices.list.all() {
        let amount = if price.per > 1.0 {
            format!("{} / {}", price.dollars, number(price.per))
        } else {
            price.dollars.to_string()
        };
        let read = match (&price.quoted_by, &price.quoted) {
            (Some(page), Some(date)) => format!("<{page}>, {date}"),
            _ => "† no page found".to_owned(),
        };
        table.add(vec![
            price.unit.clone(),
            amount,
            format!("<{}>", price.source),
            read,
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use runner::project::Project;

    use super::*;
    use crate::counts::Invocations;

    /// A workload that makes these requests, five times each.
    fn workload(http: u64, s3: [(&str, u64); 3], sqs: u64, messages: u64) -> Workload {
        let times = 5;
        Workload {
            times,
            counts: Counts {
                http: [("POST /uploads".to_owned(), http * times)].into(),
                s3: s3.map(|(kind, count)| (kind.to_owned(), count * times)).into(),
                sqs: [("SendMessage".to_owned(), sqs * times)].into(),
                messages_out: messages * times,
                ..Counts::default()
            },
        }
    }

    fn with_model(test: impl FnOnce(&Model<'_>)) {
        let project = Project::find().unwrap();
        let (prices, template) = (Prices::read(&project).unwrap(), Template::read(&project).unwrap());
        test(&Model {
            prices: &prices,
            template: &template,
        });
    }

    #[test]
    fn requests_alone_have_the_ratio_of_one() {
        with_model(|model| {
            let single = workload(2, [("PUT", 1), ("HEAD", 1), ("DELETE", 7)], 3, 1);
            let folder = workload(0, [("LIST", 1), ("GET", 1), ("DELETE", 7)], 0, 0);
            let bills = [&folder, &single].map(|workload| model.bill(workload, MILLION));
            let devices = model.devices(
                &workload(0, [("DELETE", 1); 3], 0, 0),
                &workload(0, [("DELETE", 1); 3], 0, 0),
            );
            let goals = model.goals(&bills[1], &bills[0], &devices);
            assert_eq!(goals.matches("| ×1.00 |").count(), 3, "{goals}");
            assert_eq!(goals.matches("| stretch |").count(), 3, "{goals}");
        });
    }

    #[test]
    fn a_bill_has_duration_and_logs_of_one_operation_times_the_operations() {
        with_model(|model| {
            let all = Invocations {
                count: 10,
                milliseconds: 80,
            };
            let mut counted = workload(0, [("DELETE", 1); 3], 0, 0);
            counted.counts.invocations = [("uploads".to_owned(), all)].into();
            counted.counts.log_bytes = [("uploads".to_owned(), 500)].into();
            let item = |name: &str| {
                let bill = model.bill(&counted, MILLION);
                bill.into_iter().find(|item| item.name.starts_with(name)).unwrap()
            };
            let (list, system) = (&model.prices.list, model.template.logging["uploads"].system_bytes);
            let close = |one: f64, other: f64| assert!((one - other).abs() < 1e-9, "{one} {other}");
            close(item("Lambda invocations").dollars, list.invocation.of(2e6));
            let gigabytes = f64::from(model.template.memory) / 1_024.0;
            close(
                item("Lambda duration").dollars,
                list.gigabyte_second.of(16.0 * gigabytes * 1e3),
            );
            let logged = (100.0 + 2.0 * float(system)) / 1e3;
            close(
                item("Logs").dollars,
                list.logs_ingested.of(logged) + list.logs_stored.of(logged),
            );
        });
    }

    #[test]
    fn a_value_at_its_goal_meets_it() {
        let marks = [1.05, 1.1, 1.11].map(|value| mark(value, 1.1, Some(1.05)));
        assert_eq!(marks, ["stretch", "met", "**MISSED**"]);
        assert_eq!(mark(0.05, 0.05, None), "met");
    }
}
