//! How large content is cut into parts.

use serde::{Deserialize, Serialize};

use crate::numbers::{ByteCount, PartNumber};

const MIB: i64 = 1024 * 1024;

/// The smallest part but the last, in bytes: small enough that little is sent again after an interruption, and over S3's
/// 5 MiB (Amazon S3 User Guide, "Amazon S3 multipart upload limits").
pub const MIN_PART_BYTES: i64 = 8 * MIB;

/// How many parts S3 takes at most (the same page).
pub const MAX_PARTS: i64 = 10_000;

/// How content is cut: into equal parts and a last one that may be smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartLayout {
    /// The size of every part but the last, in bytes.
    pub part_size: ByteCount,
    /// How many there are.
    pub part_count: PartNumber,
}

impl PartLayout {
    /// The cut of content of this size, which must not be empty: the smallest whole number of MiB, from
    /// [`MIN_PART_BYTES`], that makes at most [`MAX_PARTS`] parts.
    pub fn of(size: ByteCount) -> Option<Self> {
        let least = size.get().div_euclid(MAX_PARTS) + i64::from(size.get() % MAX_PARTS > 0);
        let mebibytes = least.div_euclid(MIB) + i64::from(least % MIB > 0);
        Self::with_part_size(size, (mebibytes * MIB).max(MIN_PART_BYTES).try_into().ok()?)
    }

    /// The cut of content of this size into parts of that size, as an earlier release may have chosen it.
    pub fn with_part_size(size: ByteCount, part_size: ByteCount) -> Option<Self> {
        let (size, each) = (size.get(), part_size.get());
        let part_count = size.checked_div(each)? + i64::from(size % each > 0);
        Some(Self {
            part_size,
            part_count: part_count.try_into().ok()?,
        })
    }

    /// The size of one part of content of this size; nothing if it has no such part.
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
