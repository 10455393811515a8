//! Tests of a running server, over real sockets.

mod busy;
mod check;
mod conversation;
mod database;
mod deployment;
mod disk;
mod echo;
mod ending;
mod follow_ups;
mod frames;
mod http;
mod kill;
mod model;
mod outage;
mod outside;
mod poison;
mod postgres;
mod readers;
mod resume;
mod shutdown;
mod sockets;
mod supabase;
mod takeover;
mod text;
mod torture;
mod verify;
