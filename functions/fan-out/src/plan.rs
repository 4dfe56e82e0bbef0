//! Plans the posts of a batch. Pure: no I/O, no clock.

use std::collections::BTreeMap;

use db::{Audience, Page, Recipient};
use model::{Delivery, PageKey, Recipients};
use platform::error_chain;
use platform::panics::catch_panic;
use tracing::error;

use crate::delivery::Post;
use crate::post::Frame;
use crate::queue::{Destination, OutgoingMessage};
use crate::records::Record;

/// Records of one space with the same recipients. Their changes are sent together.
pub(crate) struct Group<'a> {
    pub(crate) records: Vec<&'a Record>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) recipients: &'a [Recipient],
    /// The key after which the audience continues; `None` if this is its last page.
    pub(crate) next: Option<&'a PageKey>,
}

/// The posts of a batch, by group.
pub(crate) struct Plan<'a> {
    pub(crate) groups: Vec<Group<'a>>,
    /// Records whose audience is unknown or whose event cannot be encoded.
    pub(crate) failed: Vec<&'a Record>,
}

/// Groups records by space and recipients.
pub(crate) fn by_audience(records: &[Record]) -> BTreeMap<Audience, Vec<&Record>> {
    let mut audiences: BTreeMap<Audience, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let audience = Audience {
            space_id: record.message.event.space_id,
            to: record.message.delivery.to.clone(),
        };
        audiences.entry(audience).or_default().push(record);
    }
    audiences
}

/// Builds a group for each audience from its records and its first page; `None` is an audience that could not
/// be read.
pub(crate) fn plan<'a>(audiences: impl Iterator<Item = (Vec<&'a Record>, Option<&'a Page>)>) -> Plan<'a> {
    let (mut groups, mut failed) = (Vec::new(), Vec::new());
    for (records, page) in audiences {
        let Some(page) = page else {
            failed.extend(records);
            continue;
        };
        match group(&records, page) {
            Ok(group) => groups.push(group),
            // Encode each record alone, so that a bad record does not stop the delivery of the others.
            Err(_) => {
                for record in records {
                    match group(&[record], page) {
                        Ok(group) => groups.push(group),
                        Err(reason) => {
                            let event_id = record.message.event.event_id;
                            error!(%event_id, error = reason, "event {event_id} cannot be encoded");
                            failed.push(record);
                        }
                    }
                }
            }
        }
    }
    Plan { groups, failed }
}

/// Encodes the frames of a group. An error or a panic here fails only these records.
fn group<'a>(records: &[&'a Record], page: &'a Page) -> Result<Group<'a>, String> {
    let encoded = catch_panic(|| match (records.first(), page.epoch) {
        (Some(record), Some(epoch)) => {
            let events = records.iter().flat_map(|record| record.message.events());
            model::frames(epoch, record.message.event.space_id, events)
        }
        // A page without an epoch has no recipients.
        _ => Ok(Vec::new()),
    });
    let frames = encoded
        .map_err(|panic| panic.to_string())?
        .map_err(|error| error_chain(&error))?;
    Ok(Group {
        records: records.to_vec(),
        frames: frames.into_iter().map(Frame::new).collect(),
        recipients: &page.recipients,
        next: page.next.as_ref(),
    })
}

impl Plan<'_> {
    /// Returns a post to each recipient of each group.
    pub(crate) fn posts(&self) -> Vec<Post<'_>> {
        let groups = self.groups.iter();
        let posts = groups
            .flat_map(|group| (group.recipients.iter()).map(move |recipient| Post { group, recipient }));
        posts.collect()
    }

    /// Returns a message to the recipients after the page, for each selected record whose audience has
    /// another page.
    pub(crate) fn next_pages(&self, selected: impl Fn(&Record) -> bool) -> Vec<OutgoingMessage<'_>> {
        let mut messages = Vec::new();
        for group in &self.groups {
            let Some(next) = group.next else { continue };
            for record in group.records.iter().copied().filter(|record| selected(record)) {
                let delivery = Delivery {
                    attempt: record.message.delivery.attempt,
                    to: Recipients::After(next.clone()),
                };
                messages.extend(OutgoingMessage::new(Destination::Queue, record, delivery, 0));
            }
        }
        messages
    }
}
