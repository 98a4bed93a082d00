//! The section `[shards]`: how many, where, and how they wait.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::CpuList;
use super::bounds::SHARDS;

/// `[shards]`: the cores and how they wait for work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shards {
    /// How many shards to run. Default `"auto"`; or 1 to 1024, and not more
    /// than `cpus` lists.
    pub count: ShardCount,
    /// The CPUs to run them on. Default `"auto"`; or a list such as `"0-3,8"`.
    pub cpus: CpuChoice,
    /// Whether each shard is pinned to its CPU. Default true.
    pub pin: bool,
    /// How long a shard without work goes on looking for some before it
    /// sleeps, in microseconds; one that is busy two thirds of its time, with
    /// several messages at a time, sleeps at once. Default 50; 0 sleeps at
    /// once; at most 1,000,000.
    pub busy_poll_us: u32,
    /// Which shard a new connection goes to. Default `"balanced"`.
    pub accept: Accept,
}

impl Default for Shards {
    fn default() -> Self {
        Self {
            count: ShardCount::Auto,
            cpus: CpuChoice::Auto,
            pin: true,
            busy_poll_us: 50,
            accept: Accept::Balanced,
        }
    }
}

/// Which shard a new connection goes to: `shards.accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// To the least loaded one, before its first read.
    Balanced,
    /// To the one where the kernel put it.
    Local,
}

/// How many shards to run: `shards.count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub enum ShardCount {
    /// One for each CPU: of the list in `shards.cpus` if there is one, else
    /// those that the affinity mask and the cgroup's quota leave us.
    Auto,
    /// This many.
    Exactly(NonZeroU16),
}

/// Where shards run: `shards.cpus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub enum CpuChoice {
    /// On the CPUs of the affinity mask.
    Auto,
    /// On these; shard i on the i-th.
    List(CpuList),
}

const AUTO: &str = "auto";

/// How both are written. A lone number is a list of one CPU too: TOML takes
/// `cpus = 0`, and even more so `--set shards.cpus=0`, for a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

/// The value is not one of those that the key takes. Without details, because
/// the error that people read is put together from the key's rule.
#[derive(Debug, thiserror::Error)]
#[error("not a value of this key")]
struct Unfit;

impl TryFrom<NumberOrText> for ShardCount {
    type Error = Unfit;

    fn try_from(written: NumberOrText) -> Result<Self, Unfit> {
        match written {
            NumberOrText::Text(text) if text == AUTO => Ok(Self::Auto),
            NumberOrText::Number(count) if SHARDS.contains(&count) => u16::try_from(count)
                .and_then(NonZeroU16::try_from)
                .map(Self::Exactly)
                .map_err(|_| Unfit),
            _ => Err(Unfit),
        }
    }
}

impl From<ShardCount> for NumberOrText {
    fn from(count: ShardCount) -> Self {
        match count {
            ShardCount::Auto => Self::Text(AUTO.to_owned()),
            ShardCount::Exactly(count) => Self::Number(count.get().into()),
        }
    }
}

impl TryFrom<NumberOrText> for CpuChoice {
    type Error = Unfit;

    fn try_from(written: NumberOrText) -> Result<Self, Unfit> {
        match written {
            NumberOrText::Text(text) if text == AUTO => Ok(Self::Auto),
            NumberOrText::Text(text) => text.parse().map(Self::List).map_err(|_| Unfit),
            NumberOrText::Number(id) => CpuList::one(id).map(Self::List).ok_or(Unfit),
        }
    }
}

impl From<CpuChoice> for NumberOrText {
    fn from(cpus: CpuChoice) -> Self {
        match cpus {
            CpuChoice::Auto => Self::Text(AUTO.to_owned()),
            CpuChoice::List(list) => Self::Text(list.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(text: &str) -> Option<Shards> {
        toml::from_str(text).ok()
    }

    fn exactly(count: u16) -> ShardCount {
        ShardCount::Exactly(NonZeroU16::new(count).unwrap())
    }

    #[test]
    fn counts() {
        assert_eq!(shards("count = 'auto'").unwrap().count, ShardCount::Auto);
        assert_eq!(shards("count = 1").unwrap().count, exactly(1));
        assert_eq!(shards("count = 1024").unwrap().count, exactly(1024));
        for wrong in [
            "0", "1025", "65537", "-1", "2.0", "'2'", "'all'", "true", "[]",
        ] {
            assert_eq!(shards(&format!("count = {wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn accept() {
        assert_eq!(shards("").unwrap().accept, Accept::Balanced);
        let balanced = shards("accept = 'balanced'").unwrap();
        assert_eq!(balanced.accept, Accept::Balanced);
        assert_eq!(shards("accept = 'local'").unwrap().accept, Accept::Local);
        for wrong in ["''", "'Local'", "'auto'", "true", "0"] {
            assert_eq!(shards(&format!("accept = {wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn cpus() {
        let list = |text: &str| CpuChoice::List(text.parse().unwrap());
        assert_eq!(shards("cpus = 'auto'").unwrap().cpus, CpuChoice::Auto);
        assert_eq!(shards("cpus = '0-3,8'").unwrap().cpus, list("0-3,8"));
        assert_eq!(shards("cpus = 7").unwrap().cpus, list("7"));
        for wrong in ["4096", "65536", "-1", "''", "'0,0'", "'3-0'", "[0, 1]"] {
            assert_eq!(shards(&format!("cpus = {wrong}")), None, "{wrong}");
        }
    }
}
