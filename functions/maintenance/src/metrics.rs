//! The metrics of this function.

use platform::metrics::Metric;

/// Events in the outbox.
pub(crate) const WAITING: &str = "EventsWaiting";

/// Age of the oldest event in the outbox, in seconds.
pub(crate) const OLDEST: &str = "OldestEventAge";

/// Events that the event bus took. Each is counted once.
pub(crate) const PUT_ON_BUS: &str = "EventsPutOnBus";

/// Age of the oldest event that waits for the event bus, in seconds. Only with a bus.
pub(crate) const OLDEST_FOR_BUS: &str = "OldestBusEventAge";

/// Dead letters that were requeued.
pub(crate) const REDRIVEN: &str = "MessagesRedriven";

/// Objects that were purged.
pub(crate) const OBJECTS_PURGED: &str = "ObjectsPurged";

/// Bytes of objects that were purged.
pub(crate) const BYTES_PURGED: &str = "BytesPurged";

/// All metrics with their units.
pub const METRICS: [Metric; 8] = [
    Metric::Count(queue::PUBLISHED),
    Metric::Gauge(WAITING),
    Metric::Seconds(OLDEST),
    Metric::Count(PUT_ON_BUS),
    Metric::Seconds(OLDEST_FOR_BUS),
    Metric::Count(REDRIVEN),
    Metric::Count(OBJECTS_PURGED),
    Metric::Count(BYTES_PURGED),
];
