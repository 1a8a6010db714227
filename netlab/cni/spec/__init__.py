"""What plugins and runtimes both need of the CNI specification: versions, results, error objects."""
