"""What belongs to other projects: importers, reference numbers, licences. No copied code."""
