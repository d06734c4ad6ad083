"""The sync engine: pure functions over trees and histories."""
