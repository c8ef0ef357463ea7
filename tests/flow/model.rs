//! What the product makes of a provider's answers, judged by a provider that knows what it has done.
//!
//! First a call alone: definition, request, HTTP, interpretation. Then whole refreshes of a fleet, where it counts that no
//! refresh token which may be spent is presented again.

mod classes;
mod exchange;
mod families;
mod grants;
mod secrets;
