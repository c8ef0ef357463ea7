//! Places at which a test build can be told to die or to stand still, and guards that it can be told to do without.
//!
//! Compiled in by the feature `failpoints` alone, which only the crate of the tests asks for; in every other build
//! [`reached`] and [`is_off`] are nothing. A module of our own, because the crate `fail` (0.5.1, of 2022) blocks the
//! thread that it stops, which is the runtime's, and reads the environment by itself.

#[cfg(feature = "failpoints")]
mod armed;

#[cfg(feature = "failpoints")]
pub use armed::{VARIABLE, WITHOUT_VARIABLE, is_off, obey, reached, turn_off};

/// A place between two steps that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A page of due connections was read.
    AfterSelect,
    /// They are claimed.
    AfterClaim,
    /// A message is sent, and not confirmed.
    BeforeConfirm,
    /// A refresh is about to call, and has not written it down.
    BeforeLease,
    /// It is written down, and the lease is taken.
    AfterLease,
    /// The provider has begun to answer.
    DuringCall,
    /// The provider has answered. Whoever is held here for longer than its lease is a zombie: it lives, and somebody else has
    /// taken its place.
    Zombie,
    /// The answer is understood, and nothing of it is stored.
    AfterAnswer,
    /// It is stored, and not in the cache.
    AfterCommit,
    /// It is in the cache, and its message is not acknowledged.
    AfterCache,
}

impl Point {
    /// Every place.
    pub const ALL: [Self; 10] = [
        Self::AfterSelect,
        Self::AfterClaim,
        Self::BeforeConfirm,
        Self::BeforeLease,
        Self::AfterLease,
        Self::DuringCall,
        Self::Zombie,
        Self::AfterAnswer,
        Self::AfterCommit,
        Self::AfterCache,
    ];

    /// As it is named to a process.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AfterSelect => "after_select",
            Self::AfterClaim => "after_claim",
            Self::BeforeConfirm => "before_confirm",
            Self::BeforeLease => "before_lease",
            Self::AfterLease => "after_lease",
            Self::DuringCall => "during_call",
            Self::Zombie => "zombie",
            Self::AfterAnswer => "after_answer",
            Self::AfterCommit => "after_commit",
            Self::AfterCache => "after_cache",
        }
    }
}

/// What keeps an effect from happening twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The preconditions of a commit.
    Fence,
    /// The note of a call that spends a refresh token, before it is sent.
    Journal,
    /// Dead letters that reach their queue also where the broker is killed.
    DeadLettering,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 3] = [Self::Fence, Self::Journal, Self::DeadLettering];

    /// As it is named to a process.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Journal => "journal",
            Self::DeadLettering => "dead_lettering",
        }
    }
}

/// Goes on, in this build.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub async fn reached(_: Point) {}

/// No guard is off, in this build.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn is_off(_: Guard) -> bool {
    false
}
