//! Modification times of files.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;
use time::serde::rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// The modification time of a file: in UTC, in whole microseconds, as PostgreSQL stores it, in the years 0 to
/// 9999 of RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ModifiedAt(#[serde(with = "rfc3339")] OffsetDateTime);

/// The time is not in the years 0 to 9999.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a modification time is in the years 0 to 9999 of UTC")]
pub struct InvalidModifiedAt;

impl ModifiedAt {
    /// The time.
    pub const fn get(self) -> OffsetDateTime {
        self.0
    }

    /// The time as file systems have it; `None` if this machine cannot represent it.
    pub fn system_time(self) -> Option<SystemTime> {
        let nanos = self.0.unix_timestamp_nanos();
        let distance = Duration::from_nanos_u128(nanos.unsigned_abs());
        if nanos < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    }
}

impl TryFrom<OffsetDateTime> for ModifiedAt {
    type Error = InvalidModifiedAt;

    /// Drops what is less than a microsecond.
    fn try_from(time: OffsetDateTime) -> Result<Self, InvalidModifiedAt> {
        let time = time.checked_to_offset(UtcOffset::UTC).ok_or(InvalidModifiedAt)?;
        if !(0..=9999).contains(&time.year()) {
            return Err(InvalidModifiedAt);
        }
        let time = time.replace_microsecond(time.microsecond());
        time.map(Self).map_err(|_| InvalidModifiedAt)
    }
}

impl TryFrom<SystemTime> for ModifiedAt {
    type Error = InvalidModifiedAt;

    /// Drops what is less than a microsecond.
    fn try_from(time: SystemTime) -> Result<Self, InvalidModifiedAt> {
        let nanos = |distance: Duration| i128::try_from(distance.as_nanos()).unwrap_or(i128::MAX);
        let nanos = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        };
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos);
        time.map_err(|_| InvalidModifiedAt)?.try_into()
    }
}

impl<'de> Deserialize<'de> for ModifiedAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rfc3339::deserialize(deserializer)?
            .try_into()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_to_the_microsecond_in_utc() {
        let time = |text: &str| serde_json::from_value::<ModifiedAt>(text.into());
        for (given, kept) in [
            (
                "2026-01-02T03:04:05.123456789+01:00",
                "2026-01-02T02:04:05.123456Z",
            ),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            let parsed = time(given).unwrap();
            assert_eq!(serde_json::to_value(parsed).unwrap(), kept);
            assert_eq!(ModifiedAt::try_from(parsed.get()), Ok(parsed));
        }
        for bad in [
            "yesterday",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+00:01",
            "2026-01-02",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_systems_time_comes_back() {
        for nanos in [0, 1_000, 1_767_323_045_678_901_000] {
            for time in [
                SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos),
                SystemTime::UNIX_EPOCH - Duration::from_nanos(nanos),
            ] {
                let kept = ModifiedAt::try_from(time).unwrap();
                assert_eq!(kept.system_time(), Some(time));
            }
        }
    }
}
