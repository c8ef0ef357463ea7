//! `freshet dev` as a process.

mod file;
mod installation;
mod simulation;
