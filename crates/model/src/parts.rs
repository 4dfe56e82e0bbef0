//! Part sizes of multipart uploads.

use serde::{Deserialize, Serialize};

use crate::numbers::{ByteCount, PartNumber};

const MIB: i64 = 1024 * 1024;

/// The minimum size in bytes of every part but the last. It is small, so that little is sent again after an
/// interruption, and above S3's minimum of 5 MiB (Amazon S3 User Guide, "Amazon S3 multipart upload limits").
pub const MIN_PART_BYTES: i64 = 8 * MIB;

/// S3's maximum number of parts in an upload (Amazon S3 User Guide, "Amazon S3 multipart upload limits").
pub const MAX_PARTS: i64 = 10_000;

/// The division of content into parts of equal size. The last part may be smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartLayout {
    /// The size of every part but the last, in bytes.
    pub part_size: ByteCount,
    /// The number of parts, the last included.
    pub part_count: PartNumber,
}

impl PartLayout {
    /// Chooses the layout for content of this size. The part size is the smallest whole number of MiB that is
    /// at least [`MIN_PART_BYTES`] and makes at most [`MAX_PARTS`] parts. `None` if the content is empty.
    pub fn of(size: ByteCount) -> Option<Self> {
        let least = size.get().div_euclid(MAX_PARTS) + i64::from(size.get() % MAX_PARTS > 0);
        let mebibytes = least.div_euclid(MIB) + i64::from(least % MIB > 0);
        Self::with_part_size(size, (mebibytes * MIB).max(MIN_PART_BYTES).try_into().ok()?)
    }

    /// The layout for content of this size with a given part size, such as one that an earlier release chose.
    /// `None` if either size is 0 or there are more than [`MAX_PARTS`] parts.
    pub fn with_part_size(size: ByteCount, part_size: ByteCount) -> Option<Self> {
        let (size, each) = (size.get(), part_size.get());
        let part_count = size.checked_div(each)? + i64::from(size % each > 0);
        Some(Self {
            part_size,
            part_count: part_count.try_into().ok()?,
        })
    }

    /// The size of one part of content of this size in bytes; `None` if there is no such part.
    pub fn size_of(self, part: PartNumber, size: ByteCount) -> Option<ByteCount> {
        if part > self.part_count {
            return None;
        }
        let before = (part.get() - 1) * self.part_size.get();
        (size.get() - before).min(self.part_size.get()).try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(size: i64) -> ByteCount {
        size.try_into().unwrap()
    }

    #[test]
    fn every_size_is_cut_within_the_limits_of_s3_and_adds_up() {
        let five_tib = 5 * 1024 * 1024 * MIB;
        for size in [
            1,
            MIN_PART_BYTES,
            MIN_PART_BYTES + 1,
            64 * MIB + 1,
            1024 * MIB,
            MAX_PARTS * MIN_PART_BYTES,
            MAX_PARTS * MIN_PART_BYTES + 1,
            five_tib - 1,
            five_tib,
        ] {
            let parts = PartLayout::of(bytes(size)).unwrap();
            let (each, count) = (parts.part_size.get(), parts.part_count.get());
            assert!((5 * MIB..=5 * 1024 * MIB).contains(&each), "{size}: {each}");
            assert!((1..=MAX_PARTS).contains(&count), "{size}: {count}");
            let total: i64 = (1..=count)
                .map(|part| {
                    parts
                        .size_of(part.try_into().unwrap(), bytes(size))
                        .unwrap()
                        .get()
                })
                .sum();
            assert_eq!(total, size);
            assert!(
                count == MAX_PARTS
                    || parts
                        .size_of((count + 1).try_into().unwrap(), bytes(size))
                        .is_none()
            );
        }
    }

    #[test]
    fn small_parts_are_kept_as_long_as_they_suffice() {
        assert_eq!(
            PartLayout::of(bytes(80_000 * MIB)).unwrap().part_size,
            bytes(8 * MIB)
        );
        assert_eq!(
            PartLayout::of(bytes(80_000 * MIB + 1)).unwrap().part_size,
            bytes(9 * MIB)
        );
        assert_eq!(PartLayout::of(bytes(0)), None);
    }
}
