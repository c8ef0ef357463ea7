//! Whatever stands in a row, an answer or a message: it ends in a clear error, and nothing is lost.

mod cases;
mod messages;
mod rows;
mod storage;
