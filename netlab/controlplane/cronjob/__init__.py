"""The cron job controller: a Job whenever the schedule says so."""
