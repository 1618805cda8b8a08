"""The figures of a report: plain numbers that OUT/report.json has and OUT/report.html draws."""
