//! What is on the screen, and what keys make of it.

use super::list::{List, Row};
use super::look::{Look, RealRow, ServiceRow};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What is on the screen: the services, or the real servers of one.
pub(super) struct Screen {
    pub(super) address: String,
    /// But for its services: those are in the list.
    pub(super) look: Look,
    pub(super) services: List<ServiceRow>,
    pub(super) reals: List<RealRow>,
    /// The service whose real servers are shown.
    pub(super) open: Option<ServiceRow>,
    /// A filter is being written.
    pub(super) is_typing: bool,
    pub(super) is_help: bool,
    /// Said in the place of the keys, until the next one.
    pub(super) note: Option<String>,
}

impl Screen {
    pub(super) fn new(address: String) -> Self {
        Screen {
            address,
            look: Look::default(),
            services: List::new(),
            reals: List::new(),
            open: None,
            is_typing: false,
            is_help: false,
            note: None,
        }
    }

    /// What happened since.
    pub(super) fn show(&mut self, mut look: Look) {
        self.services.set(std::mem::take(&mut look.services));
        self.look = look;
        let Some(open) = self.open.take() else {
            return;
        };
        let id = open.id();
        self.open = self
            .services
            .rows()
            .iter()
            .find(|row| row.id() == id)
            .cloned();
        match &self.open {
            Some(service) => self.reals.set(service.reals.clone()),
            None => {
                self.is_typing = false;
                self.note = Some(format!("{} is no longer configured", open.name));
            }
        }
    }

    /// What a key does; false: it ends the view.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind != KeyEventKind::Press {
            return true;
        }
        self.note = None;
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return false;
        }
        if self.is_typing {
            self.type_filter(key.code, is_control);
            return true;
        }
        // Any key but the one that ends everything.
        let was_help = std::mem::take(&mut self.is_help);
        match key.code {
            KeyCode::Char('q') => return false,
            _ if was_help => {}
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.is_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Enter => self.enter(),
            KeyCode::Esc => self.back(),
            code => {
                let _ = match self.open {
                    Some(_) => self.reals.press(code),
                    None => self.services.press(code),
                };
            }
        }
        true
    }

    fn type_filter(&mut self, key: KeyCode, is_control: bool) {
        let change: &dyn Fn(&mut String) = match key {
            KeyCode::Char('u') if is_control => &String::clear,
            KeyCode::Char(letter) if !is_control => &move |text| text.push(letter),
            KeyCode::Backspace => &|text| {
                text.pop();
            },
            KeyCode::Enter => {
                self.is_typing = false;
                return;
            }
            KeyCode::Esc => {
                self.is_typing = false;
                &String::clear
            }
            _ => return,
        };
        self.filter(change);
    }

    fn filter(&mut self, change: &dyn Fn(&mut String)) {
        match self.open {
            Some(_) => self.reals.filter(change),
            None => self.services.filter(change),
        }
    }

    /// The filter of what is shown.
    pub(super) fn filter_text(&self) -> &str {
        match self.open {
            Some(_) => &self.reals.filter,
            None => &self.services.filter,
        }
    }

    /// Opens the selected service.
    fn enter(&mut self) {
        if self.open.is_some() {
            return;
        }
        if let Some((_, service)) = self.services.selected() {
            let mut reals = List::new();
            // As the last one was.
            reals.begin(Some(self.reals.sort), "");
            reals.set(service.reals.clone());
            self.open = Some(service.clone());
            self.reals = reals;
        }
    }

    /// From a filter to all, from real servers to the services.
    fn back(&mut self) {
        if !self.filter_text().is_empty() {
            self.filter(&String::clear);
        } else {
            self.open = None;
        }
    }
}
